"""The read of one call: one round trip for the facts of a called number, and their proof.

Invariants:
- an answer is "no" only if the stamp read after the facts, in the same pipeline, is of this
  epoch, lists the generation asked and has not gone back in the ledger's sequence;
- nothing raises on the way of a call: what could not be read is named in `Facts.unknown`;
- a call asks one node, and where a cluster sends it to another one, that one after it; of a
  cluster it may ask a second one at the same time, for the signals of the calling number.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from math import inf
from typing import Any, Final, cast

from consent.conduct import NOTHING, Values, combined, unpack
from consent.facts import NO_PROFILE, SIGNALS, UNKNOWN, Facts
from consent.index import layout
from consent.index.address import Kind, parse_servers
from consent.index.link import Redirected, Timing, encode_command
from consent.index.nodes import Nodes

REFUSES: Final = "called.refuses"
ASKING: Final = encode_command("ASKING")
SIGNALS_SECONDS: Final = 10.0
"""How old what a recorder wrote may be; it writes every second."""

SIGNALS_PROVED_SECONDS: Final = 0.25
"""A shard that has said that its signals are all there is not asked again for so long: they
themselves come to a worker no sooner."""

_SIGNAL_STAMPS: Final = tuple(
    encode_command(b"HGET", layout.conduct_key(shard), b"g") for shard in range(layout.SHARDS)
)
_DIGITS: Final = [b"%d" % length for length in range(256)]
"""The lengths of keys and fields: nothing that is sent is longer."""

_unpacked: Final = lru_cache(maxsize=1 << 14)(unpack)
"""Callers are asked about again, and of many the values are those of many others."""

_NOTHING_UNKNOWN: Final[frozenset[str]] = frozenset()
_MOST_PLANS: Final = 1024
_MOST_READS: Final = 4
"""Of one call: it may be sent to another node, may learn how a list is written, and that a consent
counts the calls that were made on it."""
_FORM: Final = re.compile(rb"(\d+)([dsm])(\d*)")


class Question:
    """What a rule set's read plan wants to know for one call.

    `called` and `calling` are E.164 digits as integers (`calling` 0: no number was sent),
    `entity` the id of the calling entity (0: none), `categories` the bits of the do-not-call
    bitmaps to look at in each of `lists`, which are pairs of list and generation; `decision_id` is
    that of the call where it may be asked about again, so that it does not count itself.
    """

    __slots__ = (
        "called",
        "calling",
        "categories",
        "consent",
        "decision_id",
        "entity",
        "frequency",
        "lists",
        "personal",
        "profile",
        "signals",
    )

    def __init__(
        self,
        called: int,
        calling: int = 0,
        entity: int = 0,
        categories: tuple[int, ...] = (),
        lists: tuple[tuple[int, int], ...] = (),
        consent: bool = False,
        personal: bool = False,
        profile: bool = False,
        frequency: bool = False,
        signals: bool = False,
        decision_id: str = "",
    ) -> None:
        self.called = called
        self.calling = calling
        self.entity = entity
        self.categories = categories
        self.lists = lists
        self.consent = consent
        self.personal = personal
        self.profile = profile
        self.frequency = frequency
        self.signals = signals
        self.decision_id = decision_id


class _Index:
    """The index of one epoch, and what is known of it."""

    __slots__ = ("epoch", "plans", "proof", "sequences", "side", "width", "written")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.proof = epoch.encode() if layout.readable(epoch) else b""
        self.side = layout.side_of(epoch)
        self.width = layout.bucket_width(epoch)
        self.plans: dict[object, _Plan] = {}
        # A shard that goes back (an old snapshot, a replica that lagged behind) has lost writes
        # that were acknowledged: outdated until the writer has caught up.
        self.sequences = [0] * layout.SHARDS
        self.written: list[bytes | None] = [None] * layout.SHARDS
        """The same, as it was read last: most often it is what is read again."""


class _Plan:
    """What is the same for every call that looks at the same lists and categories of an index.

    How a generation is written (its entry in the stamp) is learnt from the first stamp read, and
    compared with that of every later one; `looks` are the commands that follow from it.
    """

    __slots__ = (
        "categories",
        "entries",
        "index",
        "listed",
        "lists",
        "looks",
        "prefixes",
        "read",
        "seen",
        "stamps",
    )

    def __init__(self, question: Question, index: _Index) -> None:
        self.index = index
        self.lists = question.lists
        self.categories = question.categories
        self.read = tuple((str(list_id), generation) for list_id, generation in question.lists)
        self.prefixes = tuple(b"%d:" % generation for _, generation in question.lists)
        self.entries: list[bytes | None] = [None] * len(question.lists)
        self.seen: list[bytes | None] = [b""] * len(question.lists)
        """The whole stamp field of each list, as it was when its entry was last compared."""
        self.looks: tuple[tuple[int, bytes, int], ...] = ()
        """The category's mask, the key without tag and place, the width (0: a bitmap)."""
        fields = (b"e", b"q", *(b"l%d" % list_id for list_id, _ in question.lists))
        self.stamps = tuple(
            encode_command(b"HMGET", index.side.stamp_key(shard), *fields)
            for shard in range(layout.SHARDS)
        )
        self.listed: dict[int, Facts] = {}
        """The answers without a profile, a consent or a personal entry, by what is listed."""

    def entry(self, at: int, readable: bytes | None) -> bytes | None:
        """What the stamp says of the generation of list `at`, None if it is not readable."""
        for entry in (readable or b"").split(b" "):
            if entry.startswith(self.prefixes[at]):
                return entry
        return None

    def learn(self, at: int, entry: bytes) -> None:
        self.entries[at] = entry
        looks = []
        for (list_id, generation), known in zip(self.lists, self.entries, strict=True):
            forms = _FORM.findall(known.partition(b":")[2]) if known else ()
            for digits, kind, width in forms:
                bit = int(digits)
                if bit not in self.categories:
                    continue
                name = b"%d.%d:%d:" % (list_id, generation, bit)
                if kind in b"dm":
                    looks.append((1 << bit, self.index.side.bitmap + name, 0))
                if kind in b"sm":
                    looks.append((1 << bit, self.index.side.sparse + name, int(width)))
        self.looks = tuple(looks)


class IndexReader:
    """Reads facts from the servers at `url` (see `parse_servers`) for the index of one epoch.

    `epoch` may be set anew while calls are on their way. Belongs to the event loop that starts it.
    """

    def __init__(
        self,
        url: str,
        *,
        epoch: str,
        timing: Timing = Timing(),  # noqa: B008 - frozen
        most_waiting: int = 4096,
        tls: ssl.SSLContext | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.nodes: Final = Nodes(
            parse_servers(url), timing=timing, most_waiting=most_waiting, tls=tls
        )
        self.stale = 0
        self._of_several: Final = self.nodes.servers.kind is Kind.CLUSTER
        self._wall = wall
        self._index = _Index(epoch)
        self._signals_proved = [-inf] * layout.SHARDS
        """Until when, by the loop's clock."""

    @property
    def epoch(self) -> str:
        return self._index.epoch

    @epoch.setter
    def epoch(self, epoch: str) -> None:
        # Reads on their way end in the index that they began in.
        self._index = _Index(epoch)

    def expect(self, sequence: int) -> None:
        """Take a shard that has less of the ledger than this for one that has gone back.

        Every shard had it once, so a server that lacks it lost what was acknowledged.
        """
        index = self._index
        index.sequences = [max(known, sequence) for known in index.sequences]
        index.written = [None] * layout.SHARDS

    async def start(self) -> None:
        """Connect and keep connected; returns after the first attempt, whatever came of it."""
        self._loop = asyncio.get_running_loop()
        await self.nodes.start()

    async def close(self) -> None:
        await self.nodes.close()

    @property
    def state(self) -> str:
        """The breakers: "closed" while reads go to every node, "open" while one is left out."""
        return self.nodes.state

    def outcomes(self) -> dict[str, int]:
        """How reads ended, counted since the start; "stale" are those whose stamp did not prove
        the facts, "rejected" those not sent because too many were waiting."""
        counts = self.nodes.counts()
        failed = counts["timeouts"] + counts["errors"] + self.stale
        return {
            "ok": max(0, counts["reads"] - failed),
            "timeout": counts["timeouts"],
            "error": counts["errors"],
            "stale": self.stale,
            "rejected": counts["rejected"],
        }

    @property
    def last_error(self) -> str:
        return self.nodes.last_error

    async def facts(self, question: Question, *, deadline: float) -> Facts:
        """The facts, by `deadline` (an instant of the loop's clock) and a few milliseconds."""
        answer: asyncio.Future[Facts] = self._loop.create_future()

        def done(facts: Facts) -> None:
            if not answer.done():
                answer.set_result(facts)

        self.read(question, deadline=deadline, done=done)
        return await answer

    def read(self, question: Question, *, deadline: float, done: Callable[[Facts], None]) -> None:
        """The same without a coroutine: `done` is called once, maybe before this returns."""
        if self._of_several and question.signals and question.calling:
            done = self._with_signals(question.calling, deadline, done)
        self._ask(_Read(self, question, deadline, done))

    def _with_signals(
        self, calling: int, deadline: float, done: Callable[[Facts], None]
    ) -> Callable[[Facts], None]:
        """Ask the node of the calling number for its signals, at the same time.

        The answer takes the facts of the called side; `done` has both, whichever comes first.
        """
        both: list[Facts | Values | None] = []

        def join(part: Facts | Values | None) -> None:
            both.append(part)
            if len(both) == 2:
                first, second = both
                facts, signals = (first, second) if isinstance(first, Facts) else (second, first)
                done(_joined(cast("Facts", facts), cast("Values | None", signals)))

        shard = layout.shard_of(calling)
        self.nodes.route[shard].ask(
            _signals_command(calling) + _SIGNAL_STAMPS[shard],
            expected=2,
            deadline=deadline,
            settle=lambda replies: join(self._signals_elsewhere(shard, replies)),
        )
        return join

    def _signals_elsewhere(
        self, shard: int, replies: list[Any] | Redirected | None
    ) -> Values | None:
        """The signals in the replies of a node that was asked for them alone."""
        if isinstance(replies, Redirected):
            if replies.where.for_good:
                self.nodes.moved(shard, replies.where)
            return None
        if replies is None:
            return None
        return self._signals(shard, replies, stamped=True)

    def _signals(self, shard: int, replies: list[Any], *, stamped: bool) -> Values | None:
        """The signals in the first of these replies, None where the second proves none."""
        try:
            values = replies[0]
            if stamped:
                written = replies[1]
                if written is None or abs(self._wall() - int(written)) > SIGNALS_SECONDS:
                    return None
                self._signals_proved[shard] = self._loop.time() + SIGNALS_PROVED_SECONDS
            if not values:
                return NOTHING
            return _unpacked(values[0]) if len(values) == 1 else combined([*map(unpack, values)])
        except (ValueError, TypeError, IndexError) as error:
            self._fault(shard, error)
            return None

    def _ask(self, read: "_Read") -> None:
        question = read.question
        key = (question.lists, question.categories)
        plans = self._index.plans
        plan = plans.get(key)
        if plan is None:
            if len(plans) >= _MOST_PLANS:
                plans.clear()
            plan = plans[key] = _Plan(question, self._index)
        read.left -= 1
        read.plan = plan
        read.looks = plan.looks
        if self._brings_signals(question):
            proved = self._signals_proved[layout.shard_of(question.calling)]
            read.stamped = self._loop.time() >= proved
        shard = layout.shard_of(question.called)
        try:
            commands = self._commands(read, shard)
        except (OverflowError, ValueError, TypeError) as error:
            self._fault(shard, error)
            read.done(UNKNOWN)
            return
        self.nodes.route[shard].ask(
            b"".join(commands), expected=len(commands), deadline=read.deadline, settle=read
        )

    def _brings_signals(self, question: Question) -> bool:
        """Whether the same node has the signals of the calling number, and they are asked for."""
        return question.signals and question.calling != 0 and not self._of_several

    def _commands(self, read: "_Read", shard: int) -> list[bytes]:
        question, plan = read.question, read.plan
        called = question.called
        tag, digits = layout.TAGS[shard], _DIGITS
        commands: list[bytes] = []
        if self._brings_signals(question):
            commands.append(_signals_command(question.calling))
            if read.stamped:
                commands.append(_SIGNAL_STAMPS[layout.shard_of(question.calling)])
        if plan.looks:
            block = called // layout.BLOCK
            place, bit = b"%d" % block, b"%d" % (called - block * layout.BLOCK)
            for _, name, width in plan.looks:
                if width:
                    span = b"%d" % (called // layout.SPAN)
                    commands.append(
                        b"*3\r\n$4\r\nHGET\r\n$%b\r\n%b%b%b\r\n$1\r\n%b\r\n"
                        % (
                            digits[len(tag) + len(name) + len(span)],
                            tag,
                            name,
                            span,
                            layout.sparse_field(called, width),
                        )
                    )
                    continue
                commands.append(
                    b"*3\r\n$6\r\nGETBIT\r\n$%b\r\n%b%b%b\r\n$%b\r\n%b\r\n"
                    % (
                        digits[len(tag) + len(name) + len(place)],
                        tag,
                        name,
                        place,
                        digits[len(bit)],
                        bit,
                    )
                )
        with_consent = question.consent and question.entity
        if with_consent or question.profile:
            width = plan.index.width
            key = b"%b%b%d" % (tag, plan.index.side.bucket, called // width)
            low = layout.profile_field(called, width)
            field = low + layout.pack_int(question.entity) if with_consent else low
            # Two fields always: the reply then has one shape.
            commands.append(
                b"*4\r\n$5\r\nHMGET\r\n$%b\r\n%b\r\n$%b\r\n%b\r\n$%b\r\n%b\r\n"
                % (digits[len(key)], key, digits[len(low)], low, digits[len(field)], field)
            )
        if question.personal:
            key = b"%b%b%d" % (tag, plan.index.side.personal, called)
            field = layout.pack_int(question.calling)
            commands.append(
                b"*3\r\n$4\r\nHGET\r\n$%b\r\n%b\r\n$%b\r\n%b\r\n"
                % (digits[len(key)], key, digits[len(field)], field)
            )
        if question.frequency and question.entity:
            key = layout.frequency_key(called)
            older = layout.pack_int(question.entity)
            commands.append(
                b"*4\r\n$5\r\nHMGET\r\n$%b\r\n%b\r\n$%b\r\n\0%b\r\n$%b\r\n%b\r\n"
                % (
                    digits[len(key)],
                    key,
                    digits[len(older) + 1],
                    older,
                    digits[len(older)],
                    older,
                )
            )
        # The stamp last: what a FLUSHALL took away before a read above is then seen here.
        commands.append(plan.stamps[shard])
        return commands

    def settle(self, read: "_Read", replies: list[Any] | Redirected | None) -> None:
        """The replies to a read are there, or will not come."""
        facts: Facts | None = UNKNOWN
        if isinstance(replies, Redirected):
            self._redirect(read, replies)
            return
        if replies is not None:
            try:
                facts = self._decode(read, replies)
            except (IndexError, ValueError, TypeError) as error:
                self._fault(layout.shard_of(read.question.called), error)
        if facts is not None:
            read.done(facts)
        elif read.left:
            self._ask(read)
        else:
            read.done(UNKNOWN)

    def _redirect(self, read: "_Read", redirected: Redirected) -> None:
        """Read again where a node of a cluster said, if that can still prove the facts."""
        question, plan = read.question, read.plan
        shard = layout.shard_of(question.called)
        if redirected.where.for_good:
            self.nodes.moved(shard, redirected.where)
            if read.left:
                self._ask(read)
            else:
                read.done(UNKNOWN)
            return
        # The slot is on its way to another node, key by key. What is found here is a fact; that
        # something is found nowhere is proven only once the stamp has gone over as well.
        replies = redirected.replies
        elsewhere = [at for at, reply in enumerate(replies) if isinstance(reply, Exception)]
        if not read.left or plan.looks is not read.looks or elsewhere[-1] != len(replies) - 1:
            read.done(UNKNOWN)
            return
        read.left -= 1
        commands = self._commands(read, shard)

        def settle(answers: list[Any] | Redirected | None) -> None:
            if not isinstance(answers, list):
                read.done(UNKNOWN)
                return
            for at, answer in zip(elsewhere, answers[1::2], strict=True):
                replies[at] = answer
            self.settle(read, replies)

        self.nodes.towards(redirected.where).ask(
            b"".join(ASKING + commands[at] for at in elsewhere),
            expected=2 * len(elsewhere),
            deadline=read.deadline,
            settle=settle,
        )

    def _fault(self, shard: int, error: Exception) -> None:
        # The kind alone: the text could hold a number.
        link = self.nodes.route[shard]
        link.errors += 1
        link.last_error = f"a question or a value not of the layout: {type(error).__name__}"

    @staticmethod
    def _reaches(index: _Index, shard: int, sequence: bytes | None) -> bool:
        """Whether a shard that says so has all of the ledger that it is known to have had."""
        if sequence is None:
            return False
        if sequence == index.written[shard]:
            return True
        reached = int(sequence)
        if reached < index.sequences[shard]:
            return False
        index.sequences[shard] = reached
        index.written[shard] = sequence
        return True

    def _decode(self, read: "_Read", replies: list[Any]) -> Facts | None:
        """The facts, or None when the stamp has taught how to ask for them."""
        question, plan, looks = read.question, read.plan, read.looks
        stamp: list[bytes | None] = replies[-1]
        shard = layout.shard_of(question.called)
        index = plan.index
        if stamp[0] != index.proof or not self._reaches(index, shard, stamp[1]):
            self.stale += 1
            return UNKNOWN

        unknown = _NOTHING_UNKNOWN
        if plan.lists:
            learnt = False
            for place in range(len(plan.lists)):
                readable = stamp[2 + place]
                if readable == plan.seen[place]:
                    continue
                entry = plan.entry(place, readable)
                if entry is None:
                    self.stale += 1
                    unknown = frozenset((REFUSES,))
                    continue
                plan.seen[place] = readable
                if entry != plan.entries[place]:
                    plan.learn(place, entry)
                    learnt = True
            if learnt or looks is not plan.looks:
                return None

        listed, at = 0, 0
        signals: Values = NOTHING
        if self._brings_signals(question):
            shard_of_calling = layout.shard_of(question.calling)
            seen = self._signals(shard_of_calling, replies, stamped=read.stamped)
            at = 2 if read.stamped else 1
            if seen is None:
                unknown |= {SIGNALS}
            else:
                signals = seen
        for category, _, width in looks:
            found = replies[at]
            at += 1
            if found and (not width or layout.names(found, question.called % width)):
                listed |= category

        profile = consent = held = None
        personal = ""
        with_consent = question.consent and question.entity
        if with_consent or question.profile:
            profile, consent = replies[at]
            at += 1
            held = layout.decode_consent(consent) if consent and with_consent else None
            if held and held.terms and held.terms.calls and not question.frequency:
                question.frequency = True  # a second trip, of the few whose consent counts calls
                return None
        if question.personal:
            if replies[at] is not None:
                personal = "allow" if replies[at] == b"a" else "block"
            at += 1
        calls: tuple[int, ...] = ()
        if question.frequency and question.entity:
            newer, older = replies[at]
            if newer:
                calls = layout.other_calls(newer, question.decision_id, now=self._wall())
            if older:
                calls += layout.hours(older)

        if (
            profile is consent is None
            and not calls
            and signals is NOTHING
            and not personal
            and not unknown
        ):
            facts = plan.listed.get(listed)
            if facts is None:
                facts = plan.listed[listed] = Facts(listed, generations=plan.read)
            return facts
        return Facts(
            listed,
            layout.decode_profile(profile) if profile and question.profile else NO_PROFILE,
            held,
            personal,
            plan.read,
            unknown,
            signals,
            calls,
        )


class _Read:
    """A question on its way, called with what came of it."""

    __slots__ = ("deadline", "done", "left", "looks", "plan", "question", "reader", "stamped")

    plan: _Plan
    looks: tuple[tuple[int, bytes, int], ...]
    """Those of the plan as it was when it was asked."""

    def __init__(
        self,
        reader: IndexReader,
        question: Question,
        deadline: float,
        done: Callable[[Facts], None],
    ) -> None:
        self.reader = reader
        self.question = question
        self.deadline = deadline
        self.done = done
        self.left = _MOST_READS
        self.stamped = False
        """Whether the shard of the calling number was asked if its signals are all there."""

    def __call__(self, replies: list[Any] | Redirected | None) -> None:
        self.reader.settle(self, replies)


def _signals_command(calling: int) -> bytes:
    key = layout.signals_key(calling)
    return b"*2\r\n$5\r\nHVALS\r\n$%b\r\n%b\r\n" % (_DIGITS[len(key)], key)


def _joined(facts: Facts, signals: Values | None) -> Facts:
    if signals is None:
        return replace(facts, unknown=facts.unknown | {SIGNALS})
    # Most numbers are quiet, and their facts are shared.
    return facts if signals == NOTHING else replace(facts, signals=signals)
