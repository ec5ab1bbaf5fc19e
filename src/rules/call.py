"""One call as the rules see it: what the switch said, and what the calling side adds to it."""

from typing import Final, Protocol

from consent.conduct import Values
from consent.number import Number, NumberClass

NO_NUMBER: Final = Number(0, "", NumberClass.ANONYMOUS, "", "", False)


class Conduct(Protocol):
    """How entities, number blocks and trunks have conducted themselves, in worker memory."""

    def of(self, party: str, call: "Call", /) -> Values | None:
        """The values of "entity", "block" or "trunk" of a call; None where they are not known."""


class NoConduct:
    """Where nothing counts them."""

    def of(self, party: str, call: "Call", /) -> Values | None:  # noqa: ARG002
        return None


NO_CONDUCT: Final = NoConduct()


class Call:
    """The lookup contract's fields, translated, and the calling-side facts bound to them.

    Texts are "" and integers 0 where the switch sent nothing. `at` is epoch seconds. What only
    some clients may assert (`trunk`, `priority`, `purpose`, `screening`, `cpc`, `roaming`) is
    already dropped here when this client may not. Hot: one is made for every call.
    """

    __slots__ = (
        # as asked
        "at",
        "attestation",
        "call_id",
        "call_reason",
        "called",
        "calling",
        "calling_status",
        # bound from worker memory (see rules.bind)
        "category",
        "category_basis",
        "commercial",
        "conduct",
        "cpc",
        # the call's keyed id, which percent rollouts hash
        "decision_id",
        "dialled",
        "display_name",
        "diverted_from",
        # what there is of lists for the called number's country
        "dnc_lists",
        "entity",
        "entity_id",
        "entity_stage",
        "entity_stage_event",
        "mode",
        "network",
        "origid",
        "original_called",
        "presentation",
        "priority",
        "purpose",
        "redirect_count",
        "redirect_reason",
        "region",
        "resource_priority",
        "roaming",
        "route",
        "screening",
        "side",
        "trunk",
        "verstat",
        "vouched",
    )  # fmt: skip

    def __init__(self) -> None:
        self.at: float = 0.0
        self.attestation = ""
        self.call_id = ""
        self.call_reason = ""
        self.called: Number = NO_NUMBER
        self.calling: Number = NO_NUMBER
        self.calling_status = ""
        self.cpc = ""
        self.dialled: Number = NO_NUMBER
        self.display_name = ""
        self.diverted_from: Number = NO_NUMBER
        self.mode = "voice"
        self.original_called: Number = NO_NUMBER
        self.origid = ""
        self.presentation: Number = NO_NUMBER
        self.priority = ""
        self.purpose = ""
        self.redirect_count = 0
        self.redirect_reason = ""
        self.region = ""
        self.resource_priority = ""
        self.roaming = False
        self.route = ""
        self.screening = ""
        self.side = ""
        self.trunk = ""
        self.verstat = ""
        self.dnc_lists = "current"
        """Of the do-not-call lists for the called number's country: see the fact table."""
        self.vouched = False
        """The client or trunk is configured as one whose calling numbers are vouched for."""
        self.conduct: Conduct = NO_CONDUCT
        self.category = ""
        self.category_basis = ""
        """Where `category` comes from: "purpose", "entity", "series" or ""."""
        self.commercial = False
        self.entity = ""
        self.entity_id = 0
        self.entity_stage = ""
        self.entity_stage_event = 0
        self.network = 0
        """Calling-side lists that name the number: flags of `consent.calling.DNO/BLOCK/ALLOW`."""
        self.decision_id = ""

    def traits(self) -> tuple[object, ...]:
        """What has few values. Calls of the same traits have the same value for each fact of
        `rules.schema.TRAITS`."""
        calling = self.calling
        return (
            calling[2],
            calling[3],
            calling[4],
            self.attestation,
            self.calling_status,
            self.category,
            self.category_basis,
            self.commercial,
            self.dnc_lists,
            self.entity_id != 0,
            self.entity_stage,
            self.mode,
            self.network,
            self.roaming,
            self.route,
            self.side,
            self.verstat,
            self.vouched,
        )
