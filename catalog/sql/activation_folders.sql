-- The folders of activation sets, with the bytes of each. No parameters.
select uri, max(n_bytes) as n_bytes
from activation_sets
group by uri
order by uri
