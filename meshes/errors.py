"""Named errors of the mesh layer. Each message says what was given, what was needed, and what to do."""


class InvalidMesh(ValueError):
    """Arrays that do not make a mesh; the base of the errors on mesh content."""


class NonFinitePoints(InvalidMesh):
    """NaN or infinite coordinates."""


class IndexOutOfRange(InvalidMesh):
    """Cells or tags that name points, facets or cells that do not exist."""


class UnusedPoints(InvalidMesh):
    """Points that belong to no cell."""


class DegenerateCells(InvalidMesh):
    """Cells without volume, or with a repeated vertex."""


class InvertedCells(InvalidMesh):
    """Cells whose vertices run the wrong way round."""


class UnsupportedCells(InvalidMesh):
    """Cell types, or mixtures of them, outside what the mesh layer or one of its methods can treat."""


class NonManifold(InvalidMesh):
    """A facet that belongs to more than two cells."""


class BadTag(InvalidMesh):
    """A tag that is unknown, malformed, or of a dimension that the target cannot hold."""


class UnsupportedMeshFormat(ValueError):
    """A file format, or a format for this content, that would not survive being written and read."""


class MeshReadError(ValueError):
    """A mesh file that is missing, damaged or holds something that is no mesh."""
