"""Changes in a store: blobs, documents of Cosmos DB, rows of SQL and MySQL.

The terms: https://opentelemetry.io/docs/specs/semconv/faas/faas-spans/#datasource and
https://opentelemetry.io/docs/specs/semconv/registry/attributes/db/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trace_guard.invocation.reading import known, number, text

from ..declaration import Declaration
from .description import Description, Trigger, inputs_of
from .reading import attribute, content_of, json_mapping

__all__ = ["Blob", "CosmosDb", "Sql"]


class Blob(Trigger):
    """A new or changed blob. Its content is not read, because it can be read only once, by the function.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-blob-trigger
    """

    kinds = ("blobtrigger",)
    types = ("InputStream", "BlobClient", "StorageStreamDownloader")
    trigger = "datasource"

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        path = text(attribute(value, "name")) or text(attribute(value, "blob_name"))
        container = text(attribute(value, "container_name")) or (path or "").partition("/")[0]
        declared_path = declared.setting("path")
        facts = {
            "faas.document.collection": container or (declared_path or "").partition("/")[0] or None,
            "faas.document.name": path,
            "azure.storage.blob.path": declared_path,
            "azure.storage.blob.length": number(attribute(value, "length")),
        }
        if isinstance(value, (str, bytes)):
            return cls.description(facts, content_of(value, byte_limit), declared)
        shown = {"name": path, "uri": text(attribute(value, "uri")), "length": number(attribute(value, "length"))}
        return cls.description(facts, known(shown), declared)


class CosmosDb(Trigger):
    """Documents from the change feed.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-cosmosdb-v2-trigger
    """

    kinds = ("cosmosdbtrigger",)
    types = ("DocumentList", "Document")
    trigger = "datasource"

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        messages = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else None
        collection = declared.setting("containerName", "collectionName")
        facts: dict[str, Any] = {
            "db.system.name": "azure.cosmosdb",
            "db.namespace": declared.setting("databaseName"),
            "db.collection.name": collection,
            "faas.document.collection": collection,
            "azure.cosmosdb.document_count": None if messages is None else len(messages),
        }
        if messages is None:
            return cls.description(facts, content_of(value, byte_limit), declared)
        return cls.description(facts, inputs_of(cls, messages, byte_limit), declared, messages=messages)

    @classmethod
    def facts_of_message(cls, message: Any) -> dict[str, Any]:
        return {"faas.document.name": text(json_mapping(message).get("id"))}

    @classmethod
    def input_of_message(cls, message: Any, byte_limit: int) -> Any:
        return dict(message) if isinstance(message, Mapping) else message


class Sql(Trigger):
    """https://learn.microsoft.com/azure/azure-functions/functions-bindings-azure-sql-trigger"""

    kinds = ("sqltrigger", "mysqltrigger")
    types = ("SqlRowList", "MySqlRowList")
    trigger = "datasource"

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        facts = {
            "db.system.name": "mysql" if "mysql" in (declared.kind or "").lower() else "microsoft.sql_server",
            "db.collection.name": declared.setting("tableName"),
        }
        return cls.description(facts, content_of(value, byte_limit), declared)
