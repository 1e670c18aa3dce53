-- Columns of a table or view of the catalogue with their types.
select column_name, data_type
from duckdb_columns()
where table_name = $relation
order by column_index
