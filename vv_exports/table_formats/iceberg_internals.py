"""What pyiceberg keeps private and is needed all the same."""

from pyiceberg.schema import Schema
from pyiceberg.table import Transaction
from pyiceberg.table.update import AddSchemaUpdate, SetCurrentSchemaUpdate


def set_schema(transaction: Transaction, schema: Schema) -> None:
    """Let the table go on with this schema, in a transaction with its files. ``update_schema`` knows no new column in
    the place of one of another type."""
    current = SetCurrentSchemaUpdate.model_validate({"schema-id": schema.schema_id})
    transaction._apply((AddSchemaUpdate(schema=schema), current))  # noqa: SLF001
