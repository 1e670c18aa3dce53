-- Aliases of dictionaries that begin with a text.
select distinct alias
from dictionaries
where starts_with(alias, $start)
order by alias
limit $limit
