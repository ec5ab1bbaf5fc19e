"""The tables of the record, as the newest migration leaves them.

Instants are integer microseconds since the epoch, exact and the same on every database.
Numbers are integers below 2^63: 18 digits always fit, and E.164 has at most 15.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

REVISION: Final = "0014"
"""The newest migration."""

NUMBER_LIMIT: Final = 2**63

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ROWID: Final = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key, which on SQLite must be called INTEGER to be the row's own number."""

counter: Final = Table(
    "counter",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""`revision` rises with what workers must take in, `event` is the last sequence of the ledger,
`activation` that of the rulebook."""

setting: Final = Table(
    "setting",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

catalogue: Final = Table(
    "catalogue",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("region", String(2), nullable=False),
    Column("category", String(32), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("max_age_s", BigInteger, nullable=False, server_default="0"),
)
"""`max_age_s` is how old a list may be before its facts are stale, 0 for any age."""

generation: Final = Table(
    "generation",
    METADATA,
    Column("list_id", Integer, ForeignKey("catalogue.id"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("format", String(32), nullable=False),
    Column("source", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("loaded", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("checksum", String(64), nullable=False),
    Column("loaded_us", BigInteger, nullable=False),
    Column("activated_us", BigInteger),
    Column("retired_us", BigInteger),
    Column("actor", String(128), nullable=False),
)

audit: Final = Table(
    "audit",
    METADATA,
    Column("id", ROWID, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(128), nullable=False, index=True),
    Column("detail", Text, nullable=False),
    sqlite_autoincrement=True,
)

entity: Final = Table(
    "entity",
    METADATA,
    Column("id", ROWID, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("categories", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("acts_for", BigInteger),
    Column("stages", Text, nullable=False, server_default="{}"),
)
"""`acts_for` is the entity that a telemarketer calls for: its numbers speak for that one;
`stages` is `consent.entity.Entity.stages` as JSON, what the newest steps of the ledger come to."""

entity_range: Final = Table(
    "entity_range",
    METADATA,
    Column("lo", ROWID, primary_key=True),
    Column("hi", BigInteger, nullable=False),
    Column("entity_id", BigInteger, ForeignKey("entity.id"), nullable=False, index=True),
)
"""Authorised calling numbers, both ends included; they do not overlap. A number is `lo == hi`."""

subject: Final = Table(
    "subject",
    METADATA,
    Column("id", LargeBinary(16), primary_key=True),
    Column("token", LargeBinary(32), nullable=False, unique=True),
    Column("token_version", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("erase_after", BigInteger),
    Index(
        None,
        "erase_after",
        sqlite_where=text("erase_after IS NOT NULL"),
        postgresql_where=text("erase_after IS NOT NULL"),
    ),
)
"""Who an event is about, one row a subscription: all that ties a random id to a number.

`sealed` is the subject's own data key and number under the keyring's data key, so rotating keys
rewrites this table alone, and emptying `sealed` erases what every event of it says; that is due
once the index has what the ledger says through `erase_after`. A subscription that has ended has
no token of its number but random bytes, and version 0.
"""

list_exception: Final = Table(
    "list_exception",
    METADATA,
    Column("list_id", Integer, ForeignKey("catalogue.id"), primary_key=True, autoincrement=False),
    Column("subject_id", LargeBinary(16), ForeignKey("subject.id"), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)
"""The calling numbers, by subscription, that are excepted from a network list, and by which event:
they stay so when the list is loaded anew."""

number_stage: Final = Table(
    "number_stage",
    METADATA,
    Column("subject_id", LargeBinary(16), ForeignKey("subject.id"), primary_key=True),
    Column("stages", Text, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
)
"""Where a number stands on the ladder for which no entity answers, by its subscription: JSON as in
`entity.stages`, what the newest steps of the ledger come to."""

event: Final = Table(
    "event",
    METADATA,
    Column("sequence", ROWID, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject_id", LargeBinary(16), ForeignKey("subject.id"), nullable=False),
    Column("entity_id", BigInteger, ForeignKey("entity.id")),
    Column("body", LargeBinary, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("recorded_us", BigInteger, nullable=False, server_default="0"),
    Column("hash", LargeBinary(32), nullable=False, server_default=text("''")),
    Index(None, "subject_id", "sequence"),
    Index(None, "entity_id", "sequence"),
    Index(
        "ix_event_steps",
        "sequence",
        sqlite_where=text("kind = 'ladder.stepped'"),
        postgresql_where=text("kind = 'ladder.stepped'"),
    ),
)
"""The ledger. `body` is JSON under the subject's key, bound to subject, sequence and kind; `hash`
is the link of the chain, see `consent.record.chain`."""

checkpoint: Final = Table(
    "checkpoint",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("head", LargeBinary(32), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("signature", LargeBinary, nullable=False),
)
"""What was signed of the chain."""

request: Final = Table(
    "request",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)
"""What a request that names itself has added to the ledger: its first and last sequence."""

bundle: Final = Table(
    "bundle",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sets", Text, nullable=False),
    Column("author", String(128), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("key_id", String(16), nullable=False),
)
"""Rule sets as they were pushed; `sets` are their names and revisions, for people."""

activation: Final = Table(
    "activation",
    METADATA,
    Column("sequence", ROWID, primary_key=True, autoincrement=False),
    Column("digest", String(64), ForeignKey("bundle.digest")),
    Column("back_to", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("forced", Boolean, nullable=False),
)
"""What came into force, in order; the newest is in force. `digest` is null for each node's own
folder; `back_to` is the activation that a rollback returns to, 0 for what was before the first."""

complaint: Final = Table(
    "complaint",
    METADATA,
    Column("id", ROWID, primary_key=True),
    Column("once", LargeBinary(32), nullable=False, unique=True),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("received_us", BigInteger, nullable=False, index=True),
    Column("complainant", String(32), nullable=False, index=True),
    Column("block", String(32), nullable=False),
    Column("caller", String(32), nullable=False, index=True),
    Column("jurisdiction", String(2), nullable=False),
    Column("entity_id", BigInteger, ForeignKey("entity.id")),
    Column("category", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("decision_id", String(64), nullable=False),
    Column("action", String(16), nullable=False),
    Column("rule", String(128), nullable=False),
    Column("authenticated", Boolean, nullable=False),
    Column("void", Boolean, nullable=False),
    Column("source", String(128), nullable=False),
    Index(None, "entity_id", "at_us"),
    sqlite_autoincrement=True,
)
"""What called parties complained of. Parties are tokens, "" for none; `once` tells a complainant's
complaints of one caller and day; `void` are those that a step which was undone rested on."""

appeal: Final = Table(
    "appeal",
    METADATA,
    Column("id", ROWID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("opened_us", BigInteger, nullable=False, index=True),
    Column("due_us", BigInteger, nullable=False),
    Column("jurisdiction", String(2), nullable=False),
    Column("decision_id", String(64), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("entity_id", BigInteger, ForeignKey("entity.id")),
    Column("rule", String(128), nullable=False),
    Column("category", String(32), nullable=False),
    Column("cause", String(32), nullable=False),
    Column("text", LargeBinary, nullable=False),
    Column("opened_by", String(128), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("effect", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_us", BigInteger),
    Column("decided_by", String(128), nullable=False),
    sqlite_autoincrement=True,
)
"""What was appealed: a decision, or a step of the ladder by its sequence. `kind` "wanted" is a
called party's own word that it wanted a call, which needs no judge. `text` is sealed."""

warning: Final = Table(
    "warning",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("party", String(128), nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("about", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_us", BigInteger),
    Column("decided_by", String(128), nullable=False),
    Column("next_us", BigInteger, index=True),
    Column("attempts", Integer, nullable=False),
)
"""Campaigns that the watch found. A number or a block is a token; `about` is JSON. `next_us` is
when the webhook is tried next, null where nothing is to be sent any more."""

timing: Final = Table(
    "timing",
    METADATA,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("facts", String(16), primary_key=True),
    Column("within_ms", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
)
"""How many changes of which facts were in force within so many milliseconds (0: longer than any
bound), by the day since the epoch, UTC."""

notice: Final = Table(
    "notice",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("next_us", BigInteger, index=True),
    Column("attempts", Integer, nullable=False),
    Column("sending", Integer, nullable=False),
    Column("failure", String(200), nullable=False),
)
"""What became of the notices of steps up the ladder, by the sequence of the step; `next_us` as in
`warning`; `sending` counts from 1, each command to send it again included."""
