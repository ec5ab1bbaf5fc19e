"""The settings of the service: environment variables that begin with SCREENING_."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]
RegionCode = Annotated[str, Field(pattern="^([A-Z]{2})?$")]


def shipped(part: str) -> Path:
    """Where a folder of `deploy/` is: in the working folder, else where pip installed it."""
    here = Path("deploy") / part
    return here if here.is_dir() else Path(sys.prefix) / "share" / "call-screening" / part


class Settings(BaseSettings):
    """Every setting, its unit in its name, its default fit for one machine."""

    model_config = SettingsConfigDict(
        env_prefix="SCREENING_", extra="ignore", env_ignore_empty=True
    )

    state_dir: Path = Field(Path("var"), description="Folder of everything the service keeps.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8080, description="HTTP port; 0 takes a free one.")
    rpc_port: Port | Literal["off"] = Field(
        8090, description="JSON-RPC port; 0 takes a free one, off opens none."
    )
    grpc_port: Port | Literal["off"] = Field(
        50051, description="gRPC port; 0 takes a free one, off opens none."
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        1, description="Processes that answer calls; auto: one a core."
    )
    redis_url: str = Field(
        "",
        description="redis://, rediss://, unix://, redis+cluster:// or redis+sentinel:// of the "
        "index; empty: embedded server.",
    )
    database_url: str = Field(
        "", description="SQLAlchemy URL of the record; empty: SQLite in the state folder."
    )
    rules_dir: Path = Field(
        default_factory=lambda: shipped("rules"), description="Folder of the rule packs."
    )
    ladder_dir: Path = Field(
        default_factory=lambda: shipped("ladder"),
        description="Folder of the ladders of notice, restriction and suspension, one a country.",
    )
    rule_keys: Path | None = Field(
        None, description="File or folder of the public keys that rule sets must be signed by."
    )
    clients_file: Path | None = Field(
        None, description="Clients and what they may assert; empty: clients.toml of the state."
    )
    checkpoint_file: Path | None = Field(
        None,
        description="File that signed checkpoints of the ledger are added to, best on storage of "
        "others; empty: checkpoints.jsonl of the state.",
    )
    region: RegionCode = Field(
        "", description="ISO 3166-1 country of national digits when a question names none."
    )
    facts_budget_ms: float = Field(
        20.0, gt=0, le=1000, description="Longest wait for the index, a call."
    )
    watch_interval_ms: int = Field(
        500, ge=50, description="How often files and the record are looked at for changes."
    )
    recall_calls: int = Field(
        100_000,
        ge=0,
        le=100_000,
        description="Recent calls kept, sealed, for replays; 0 keeps none, and no guard can judge.",
    )
    blast_radius_percent: float = Field(
        5.0,
        ge=0,
        le=100,
        description="Rules that would change more of the recent verdicts are refused unless "
        "forced; 100 refuses none.",
    )
    lookups_per_minute: int = Field(
        600,
        ge=1,
        description="Subscribers that one key may look up, in a minute and on one node.",
    )
    record_gib: float = Field(
        10.0, ge=0.25, description="Most disk for the decision log; the oldest segments go first."
    )
    record_days: float = Field(
        180.0, gt=0, description="Longest time that a decision is kept; whole segments go."
    )
    record_key: Path | None = Field(
        None, description="Private key that the decision log's checkpoints are signed with."
    )
    watch: bool = Field(
        False, description="Run the watch beside the service: early warning of campaigns."
    )
    watch_webhook: str = Field("", description="http or https URL that warnings are sent to.")
    watch_secret: Path | None = Field(
        None, description="File of the secret that the webhook's requests are signed with."
    )
    notice_webhook: str = Field(
        "", description="http or https URL that notices of the ladder are sent to."
    )
    notice_secret: Path | None = Field(
        None, description="File of the secret that these requests are signed with."
    )
    shed_lag_ms: float = Field(
        5.0,
        ge=0,
        description="Lag of the event loop from which calls are allowed unscreened; 0: never.",
    )
    fast_lane: bool = Field(
        True, description="Answer plain lookups where their bytes come in, beside FastAPI."
    )
    wash_numbers_per_day: int = Field(
        200_000,
        ge=1,
        description="Numbers that one entity may wash, in a day and on one node; a tenth at once.",
    )
    honey_file: Path | None = Field(
        None, description="Numbers nobody should ever wash; empty: honey.txt of the state."
    )
    drain_seconds: float = Field(5.0, ge=0, description="Longest wait for open calls on stop.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of the record."""
        return self.database_url or f"sqlite:///{self.state_dir.resolve() / 'record.db'}"

    @property
    def clients(self) -> Path:
        """The file that says which client may assert what."""
        return self.clients_file or self.state_dir / "clients.toml"

    @property
    def honey(self) -> Path:
        """The file of the numbers that nobody should ever wash."""
        return self.honey_file or self.state_dir / "honey.txt"

    @property
    def checkpoints(self) -> Path:
        """The file that signed checkpoints of the ledger are added to."""
        return self.checkpoint_file or self.state_dir / "checkpoints.jsonl"
