"""What Braintrust answers about experiments, datasets, prompts and functions, as far as the SDK asks for it.

Ids come from names, so that a test knows them. What old releases ask the application and new ones the API is answered
alike.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from ..rows import Row
from .http_wire import Request, Response
from .loopback import Route
from .row_store import RowStore

__all__ = ["OBJECT_ROUTES", "ObjectsApi", "object_id"]

OBJECT_ROUTES: Sequence[Route] = (
    Route("POST", "/v1/experiment", "make_experiment"),
    Route("POST", "/api/experiment/register", "register_experiment"),
    Route("POST", "/api/base_experiment/get_id", "find_base_experiment"),
    Route("GET", "/v1/experiment/{id}/summarize", "summarize_experiment"),
    Route("GET", "/experiment-comparison2", "compare_experiments"),
    Route("POST", "/v1/experiment/{id}/fetch", "fetch_experiment"),
    Route("POST", "/v1/dataset", "make_dataset"),
    Route("POST", "/api/dataset/register", "register_dataset"),
    Route("POST", "/v1/dataset/{id}/fetch", "fetch_dataset"),
    Route("GET", "/v1/prompt", "find_prompts"),
    Route("GET", "/v1/function", "find_parameters"),
    Route("POST", "/function/invoke", "invoke"),
)
_OWNERS = {"project_logs": "project_id", "experiment": "experiment_id", "dataset": "dataset_id"}


def object_id(kind: str, name: str) -> str:
    """The id of the experiment, dataset or prompt of that name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{kind}/{name}"))


class ObjectsApi:
    """A part of :class:`.braintrust_api.BraintrustApi`; each method is named in the table above.

    Attributes:
        prompts: the text of each prompt, by slug.
        parameters: the values of each set of parameters, by slug.
        functions: what ``invoke`` answers: called with the request's body.
    """

    def __init__(self, store: RowStore) -> None:
        self.prompts: dict[str, str] = {}
        self.parameters: dict[str, dict[str, Any]] = {}
        self.functions: Callable[[Mapping[str, Any]], Any] = lambda asked: asked.get("input")
        self._store = store

    def make_experiment(self, request: Request) -> Response:
        return self._made("experiment", _body(request))

    def register_experiment(self, request: Request) -> Response:
        return self._registered(request, "experiment", "experiment_name")

    def find_base_experiment(self, request: Request) -> Response:
        return Response.json({"error": "no base experiment"}, 400)

    def make_dataset(self, request: Request) -> Response:
        return self._made("dataset", _body(request))

    def register_dataset(self, request: Request) -> Response:
        return self._registered(request, "dataset", "dataset_name")

    def summarize_experiment(self, request: Request, id: str) -> Response:
        return Response.json(self._summary(id))

    def compare_experiments(self, request: Request) -> Response:
        return Response.json(self._summary(parse_qs(request.query).get("experiment_id", [""])[0]))

    def fetch_experiment(self, request: Request, id: str) -> Response:
        return Response.json({"events": self.rows_of("experiment", id), "cursor": None})

    def fetch_dataset(self, request: Request, id: str) -> Response:
        return Response.json({"events": self.rows_of("dataset", id), "cursor": None})

    def find_prompts(self, request: Request) -> Response:
        slug = parse_qs(request.query).get("slug", [""])[0]
        if slug not in self.prompts:
            return Response.json({"objects": []})
        content = {"prompt": {"type": "completion", "content": self.prompts[slug]}}
        return self._found_by("prompt", slug, prompt_data=content)

    def find_parameters(self, request: Request) -> Response:
        slug = parse_qs(request.query).get("slug", [""])[0]
        if slug not in self.parameters:
            return Response.json({"objects": []})
        data = {"type": "parameters", "data": self.parameters[slug], "__schema": {"type": "object"}}
        return self._found_by("parameters", slug, function_data=data)

    def invoke(self, request: Request) -> Response:
        return Response.json(self.functions(_body(request)))

    def rows_of(self, kind: str, id: str) -> list[Row]:
        """The rows of a project's logs, an experiment or a dataset."""
        return [stored.row for stored in self._store.all() if stored.row.get(_OWNERS[kind]) == id]

    def _found_by(self, kind: str, slug: str, **content: Any) -> Response:
        return Response.json({"objects": [{
            "id": object_id(kind, slug), "project_id": next(iter(self._store.projects()), str(uuid.uuid4())),
            "name": slug, "slug": slug, "_xact_id": "1", "log_id": "p", "org_id": str(uuid.uuid4()),
            "description": None, "tags": None, **content,
        }]})

    def _made(self, kind: str, asked: Mapping[str, Any]) -> Response:
        project_id, name = asked.get("project_id"), str(asked.get("name") or kind)
        if project_id not in self._store.projects():
            return Response.json({"error": f"no project {project_id}"}, 400)
        return Response.json({"id": object_id(kind, name), "name": name, "project_id": project_id})

    def _registered(self, request: Request, kind: str, field: str) -> Response:
        asked, projects = _body(request), self._store.projects()
        project_id = asked.get("project_id")
        if project_id is None:
            project_id = self._add_project(request, str(asked.get("project_name")))
        elif project_id not in projects:
            return Response.json({"error": f"no project {project_id}"}, 400)
        name = str(asked.get(field) or kind)
        return Response.json({
            "project": {"id": project_id, "name": self._store.projects()[project_id]},
            kind: {"id": object_id(kind, name), "name": name, "project_id": project_id},
        })

    def _add_project(self, request: Request, name: str) -> str:
        """The id of the project of that name, in the organisation of the request's key."""
        return self._store.add_project(name)

    def _summary(self, experiment_id: str) -> dict[str, Any]:
        scores: dict[str, list[float]] = {}
        for row in self.rows_of("experiment", experiment_id):
            for name, value in (row.get("scores") or {}).items():
                scores.setdefault(name, []).append(value)
        return {"metrics": {}, "scores": {
            name: {"name": name, "score": sum(values) / len(values), "improvements": 0, "regressions": 0}
            for name, values in scores.items()
        }}


def _body(request: Request) -> Mapping[str, Any]:
    value = json.loads(request.body)
    return value if isinstance(value, dict) else {}
