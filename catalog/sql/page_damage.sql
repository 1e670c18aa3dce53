-- Data files that are missing or spoilt; their rows are left out of every answer.
select table_name, path, "rows", reason
from damaged_files
order by table_name, path
limit 1000
