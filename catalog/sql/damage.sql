-- Data files that are missing or damaged; no answer includes their rows.
select table_name, path, "rows", reason
from damaged_files
order by table_name, path
limit 1000
