"""
Tables on disk through Apache Arrow: Parquet and CSV files, and the lake in Delta tables.

The lake is imported from its module: who only reads a file need not load Delta.
"""

from mendel.adapters.arrow.table_files import read_table, write_table

__all__ = ["read_table", "write_table"]
