"""Neural operators: networks from fields to fields, one file per architecture."""
