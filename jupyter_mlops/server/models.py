"""What goes over the wire, beyond the values of the core; the OpenAPI description is made from these."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..notebook.annotation import ParameterType
from ..spec import FailureCode, RunState

LONGEST_PATH = 4096
RunName = Annotated[str, Field(min_length=1, max_length=64)]


class _Asked(BaseModel):
    """From the browser: an unknown field is a mistake, and not left out without a word."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(BaseModel):
    """What every answer other than a success holds.

    Attributes:
        message: One sentence for the person.
        hint: The next step; empty when there is none.
        code: The same for machines.
    """

    message: str
    hint: str = ""
    code: str = "error"


class NotebookQuery(_Asked):
    """Which notebook.

    Attributes:
        path: In the server's contents.
    """

    path: str = Field(min_length=1, max_length=LONGEST_PATH)


class NotebookContent(_Asked):
    """A notebook as it stands in the browser.

    Attributes:
        path: In the server's contents; need not be saved.
        content: The notebook's JSON (nbformat 4).
    """

    path: str = Field(min_length=1, max_length=LONGEST_PATH)
    content: dict[str, Any]


class ParameterOut(BaseModel):
    """One parameter as the notebook declares it.

    Attributes:
        name: The variable.
        type: What values it takes.
        type_name: The type for people.
        optional: Whether null is a value of it.
        choices: The only values, or empty.
        default: The default where JSON can say it.
        default_source: The default as source text where it is more than a literal.
        required: A run must set it.
        help: The comment behind the assignment.
    """

    name: str
    type: ParameterType
    type_name: str
    optional: bool
    choices: list[Any]
    default: Any
    default_source: str
    required: bool
    help: str


class Parameters(BaseModel):
    """The parameters of a notebook.

    Attributes:
        cell: Position of the cell that declares them, from 0; null: no cell is tagged.
        any_name: Whether the notebook takes names that it does not declare.
        parameters: In the order of the cell.
    """

    cell: int | None
    any_name: bool
    parameters: list[ParameterOut]


class ProfileOut(BaseModel):
    """Resources on offer; the other fields are those of a profile (see the settings).

    Attributes:
        is_default: Whether a run that names none gets it.
    """

    name: str
    runner: str
    description: str
    is_default: bool
    gpus: int | None
    cpus: float | None
    memory: int | None
    workers: int | None
    pods: int
    queue: str | None
    namespace: str | None


class Resources(_Asked):
    """A profile and what is changed of it; what is left out is the profile's.

    Attributes:
        profile: Its name; null: the default one.
        gpus: GPUs for the whole run.
        cpus: CPU cores for the whole run.
        memory: Memory for the whole run, like `4Gi`, or bytes.
        workers: Dask workers.
    """

    profile: str | None = Field(default=None, max_length=63)
    gpus: int | None = Field(default=None, ge=0)
    cpus: float | None = Field(default=None, gt=0)
    memory: str | int | None = None
    workers: int | None = Field(default=None, ge=1)


class NewRun(_Asked):
    """A run to start.

    Attributes:
        path: The notebook, in the server's contents.
        content: Its JSON with edits that are not saved; null: as it is saved.
        assignments: Parameters as text, typed by their declaration.
        parameters: Parameters as values.
        resources: On what.
        name: The run's name; null: the notebook's.
        experiment: MLflow experiment; null: the one that the notebook sets, else its name.
        include: Globs of files to ship.
        exclude: Globs of found files not to ship.
        autolog: Call `mlflow.autolog()` before the first cell.
        seed: Seed of the random generators.
        run_timeout: Seconds for the run.
        cell_timeout: Seconds for each cell.
        tags: More MLflow tags.
        run_key: What makes a repeated request the same run.
        dry_run: Check everything and start nothing.
    """

    path: str = Field(min_length=1, max_length=LONGEST_PATH)
    content: dict[str, Any] | None = None
    assignments: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    resources: Resources = Resources()
    name: str | None = Field(default=None, min_length=1, max_length=250)
    experiment: str | None = Field(default=None, min_length=1, max_length=250)
    include: list[str] = Field(default_factory=list, max_length=1000)
    exclude: list[str] = Field(default_factory=list, max_length=1000)
    autolog: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)
    run_timeout: float | None = Field(default=None, gt=0)
    cell_timeout: float | None = Field(default=None, gt=0)
    tags: dict[str, str] = Field(default_factory=dict)
    run_key: str | None = Field(default=None, min_length=1, max_length=255)
    dry_run: bool = False


class RunOut(BaseModel):
    """A run as it stands.

    Attributes:
        run_id: Its id, which every path takes.
        name: For people.
        path: The notebook in the server's contents; null: it is not among them.
        source: The notebook's file.
        snapshot_id: The content address of what it runs.
        profile: The resources.
        runner: Where it is executed.
        owner: Who started it.
        experiment: The MLflow experiment.
        mlflow_run_id: The run in MLflow; null: it is not made yet.
        parameters: Those that were set.
        state: How it stands.
        code: Why it did not succeed, for programs.
        message: The same for the person.
        retry_of: The run that it repeats.
        create_time: When it was accepted.
        start_time: When its first cell began to be prepared.
        end_time: When it ended.
        duration: Seconds from start to end, or until now.
    """

    run_id: str
    name: str
    path: str | None
    source: str
    snapshot_id: str
    profile: str
    runner: str
    owner: str
    experiment: str
    mlflow_run_id: str | None
    parameters: dict[str, Any]
    state: RunState
    code: FailureCode | None
    message: str
    retry_of: str | None
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    duration: float | None


class Submitted(BaseModel):
    """What became of a request for a run.

    Attributes:
        run: The run, or null after a dry run.
        files: What ships, by path in the snapshot.
        size: Bytes of all files.
        notices: Sentences that the person should read.
    """

    run: RunOut | None
    files: list[str]
    size: int
    notices: list[str]


class RunsQuery(_Asked):
    """Which runs, newest first.

    Attributes:
        state: Only this state.
        path: Only runs of this notebook, by its path in the server's contents.
        owner: Only this person's.
        name: Only runs of this name.
        before: Created before this moment: the `create_time` of the last run of the page before.
        limit: At most so many.
    """

    state: RunState | None = None
    path: str | None = Field(default=None, max_length=LONGEST_PATH)
    owner: str | None = Field(default=None, max_length=255)
    name: str | None = Field(default=None, max_length=250)
    before: datetime | None = None
    limit: int = Field(default=50, ge=1, le=500)


class RunPage(BaseModel):
    """A page of runs.

    Attributes:
        runs: Newest first.
        next_before: For `before` of the next page; null: there is none.
    """

    runs: list[RunOut]
    next_before: datetime | None


class RunDetails(BaseModel):
    """A run with what does not change any more.

    Attributes:
        run: How it stands.
        files: What shipped, by path in the snapshot; empty where the snapshot is gone.
        expected: Seconds that each cell took last time, by the digest of its source.
        mlflow_url: Where a browser shows it, or null.
        has_notebook: Whether the executed notebook is there.
    """

    run: RunOut
    files: list[str]
    expected: dict[str, float]
    mlflow_url: str | None
    has_notebook: bool


class EventsQuery(_Asked):
    """Which events of a run.

    Attributes:
        after: Leave out so many from the first on.
        limit: At most so many.
    """

    after: int = Field(default=0, ge=0)
    limit: int = Field(default=1000, ge=1, le=10_000)


class EventPage(BaseModel):
    """Events of a run.

    Attributes:
        events: In order; each is an object as in `events.jsonl`.
        after: For `after` of the next request.
    """

    events: list[dict[str, Any]]
    after: int


class RetryRun(_Asked):
    """A run to repeat.

    Attributes:
        resources: Other resources; null: the same.
    """

    resources: Resources | None = None


class CompareQuery(_Asked):
    """Which runs.

    Attributes:
        runs: Two to ten ids, separated by commas.
    """

    runs: str = Field(min_length=1, max_length=2000)


class ComparedOut(BaseModel):
    """One run in a comparison: `history` is [step, value] by metric; what is not finite is text, see `wire`."""

    run_id: str
    name: str
    state: str
    params: dict[str, str]
    metrics: dict[str, float | str]
    history: dict[str, list[tuple[int, float | str]]]
    duration: float | None


class CapacityQuery(_Asked):
    """Which place.

    Attributes:
        profile: A profile that is there; null: the default one (for capacity, the only one on Kubernetes will do).
    """

    profile: str | None = Field(default=None, max_length=63)


class CheckOut(BaseModel):
    """One line of `doctor`."""

    name: str
    state: Literal["ok", "problem", "not known"]
    message: str
    remedy: str
