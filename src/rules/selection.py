"""Which rule set a call gets, by the operator's table."""

from collections.abc import Sequence

from rules.call import Call
from rules.ruleset import RuleSet


class Selection:
    """The rows of a table, in order: side, trunk, country of the called number and the set that
    they give; what is "" matches every call, and a call that no row matches gets `default`."""

    def __init__(self, rows: Sequence[tuple[str, str, str, RuleSet]], default: RuleSet) -> None:
        self._rows = rows
        self._default = default
        self._of_country: dict[str, list[tuple[str, str, RuleSet]]] = {}
        """Side, trunk and set of the rows that may match, once a call to the country was made."""

    def of(self, call: Call) -> RuleSet:
        """The set of the first row that matches."""
        country = call.called.country
        rows = self._of_country.get(country)
        if rows is None:
            rows = self._of_country[country] = [
                (side, trunk, ruleset)
                for side, trunk, called, ruleset in self._rows
                if called in ("", country)
            ]
        for side, trunk, ruleset in rows:
            if (not side or side == call.side) and (not trunk or trunk == call.trunk):
                return ruleset
        return self._default
