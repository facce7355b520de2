"""
Read and write tables through Apache Arrow: Parquet and CSV files, and the Delta tables of the prediction lake.

Import :class:`DeltaLake` from its module: importing this package does not load the Delta library.
"""

from mendel.adapters.arrow.table_files import read_frame, read_table, read_table_and_times, write_table

__all__ = ["read_frame", "read_table", "read_table_and_times", "write_table"]
