"""Records sorted into groups that may be compared: one problem on one machine setting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..bench.compare import at_error
from ..bench.record import Record


@dataclass(frozen=True)
class Group:
    """The records of one problem on one machine, device and number of threads.

    A method has one record per size and tolerance: where the files hold several, the last one counts.
    """

    problem: str
    machine: str
    records: tuple[Record, ...]
    title: str

    @property
    def sizes(self) -> list[int]:
        """Sizes, ascending."""
        return sorted({r.size for r in self.records})

    @property
    def ladder(self) -> bool:
        """Whether there are errors that compare across sizes."""
        return any(r.error is not None and r.ladder for r in self.records)

    @property
    def methods(self) -> list[tuple[str, str]]:
        """(package, method), ours first, then in the order of the records."""
        found = dict.fromkeys((r.package, r.method) for r in self.records)
        packages = list(dict.fromkeys(package for package, _ in found))
        packages.sort(key=lambda package: package != "solvus")
        return sorted(found, key=lambda key: packages.index(key[0]))

    def of(self, package: str, method: str) -> list[Record]:
        """Return the records of one method."""
        return [r for r in self.records if (r.package, r.method) == (package, method)]


def group_records(records: Iterable[Record]) -> list[Group]:
    """Sort records into groups, in the order of their first appearance."""
    latest: dict[tuple[object, ...], Record] = {}
    for r in records:
        key = (r.benchmark, r.problem, machine(r), r.package, r.method, r.size, r.rtol)
        latest.pop(key, None)
        latest[key] = r
    sorted_in: dict[tuple[str, str, str], list[Record]] = {}
    for r in latest.values():
        sorted_in.setdefault((r.benchmark, r.problem, machine(r)), []).append(r)
    groups = []
    for (benchmark, problem, where), members in sorted_in.items():
        same = [key for key in sorted_in if key[1] == problem]
        parts = [problem]
        if len({key[0] for key in same}) > 1:
            parts.append(benchmark)
        if len({key[2] for key in same}) > 1:
            parts.append(where)
        groups.append(Group(problem, where, tuple(members), " · ".join(parts)))
    return groups


def machine(record: Record) -> str:
    """Name what a record was measured on."""
    env = record.env
    name = env.accelerator if record.device != "cpu" and env.accelerator else env.cpu
    threads = "1 thread" if record.threads == 1 else f"{record.threads} threads"
    return (
        f"{name}, {threads}" if record.device == "cpu" else f"{name}, {record.device}, {threads} on the host"
    )


def power(value: float) -> str:
    """Write a number as 1e-8 or 1.2e-5, without a place to break the line."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}".replace("-", "\N{NON-BREAKING HYPHEN}")


@dataclass(frozen=True)
class Standing:
    """A method's time at the accuracy at which a group is compared; its error, where errors are compared."""

    package: str
    method: str
    seconds: float
    error: float | None = None


@dataclass(frozen=True)
class Ranking:
    """All methods of a group at equal error, fastest first, and in words what makes the errors equal.

    Where nothing was solved to a tolerance and errors are known, they are compared: the smallest comes first.
    """

    condition: str
    standings: tuple[Standing, ...]
    tried: int

    @property
    def by_error(self) -> bool:
        """Whether errors are compared rather than times."""
        return bool(self.standings) and all(s.error is not None for s in self.standings)


def rank(group: Group) -> Ranking | None:
    """Rank the methods of a group at equal error; None when nothing succeeded.

    With errors that compare across sizes: at the smallest error that every package reaches. Else at the
    largest size that a method of ours and a peer both solved, to its tightest tolerance. Where nothing was
    solved to a tolerance, the errors themselves are ranked, unless they are equal.
    """
    return _rank_by_error(group) if group.ladder else _rank_by_tolerance(group)


def _rank_by_error(group: Group) -> Ranking | None:
    best: dict[str, float] = {}
    for r in group.records:
        if r.ok and r.error is not None:
            best[r.package] = min(r.error, best.get(r.package, r.error))
    if not best:
        return None
    target = max(best.values())
    standings = []
    for package, method in group.methods:
        found = at_error(target, group.of(package, method))
        if found is not None:
            standings.append(Standing(package, method, found[0]))
    standings.sort(key=lambda s: s.seconds)
    condition = f"a relative error of {power(target)}, the finest that every package here reached"
    return Ranking(condition, tuple(standings), len(group.methods))


def _rank_by_tolerance(group: Group) -> Ranking | None:
    succeeded = [r for r in group.records if r.ok]
    if not succeeded:
        return None
    packages: dict[int, set[bool]] = {}
    for r in succeeded:
        packages.setdefault(r.size, set()).add(r.package == "solvus")
    size = max(packages, key=lambda n: (len(packages[n]), n))
    tightest = min((r.rtol for r in succeeded if r.size == size and r.rtol is not None), default=None)
    chosen = [r for r in succeeded if r.size == size and r.rtol == tightest]
    solved = tightest is not None and any(r.residual is not None for r in chosen)
    errors = {r.error for r in chosen if not solved and all(q.error is not None for q in chosen)}
    known = len(errors) > 1 or (len(errors) == 1 and len(chosen) == 1)
    standings = [Standing(r.package, r.method, r.total_s or 0.0, r.error if known else None) for r in chosen]
    standings.sort(key=lambda s: s.seconds if s.error is None else s.error)
    unknowns = next((f" ({r.unknowns:,} unknowns)" for r in chosen if r.unknowns), "")
    to = f", to a relative residual of {power(tightest or 0.0)}" if solved else ""
    if errors and not known:
        to = f", all with an error of {power(chosen[0].error or 0.0)}"
    tried = sum(r.size == size and r.rtol in (tightest, None) for r in group.records)
    return Ranking(f"size {size}{unknowns}{to}", tuple(standings), tried)
