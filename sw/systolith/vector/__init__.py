"""Vector programs: tables, passes over rows, operations, and images of single operations."""

from . import operations
from .compile import compile_vector, run_real
from .constants import Constants
from .operations import Operation, Quantity
from .passes import Passes
from .tables import Table, byte_table, channel_table, fit, fit_best, reciprocal_table, root_table
from .values import Record, Rows

__all__ = [
    "Constants", "Operation", "Passes", "Quantity", "Record", "Rows", "Table", "byte_table",
    "channel_table", "compile_vector", "fit", "fit_best", "operations", "reciprocal_table",
    "root_table", "run_real",
]
