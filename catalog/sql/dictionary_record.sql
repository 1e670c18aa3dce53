-- One dictionary: where it reads and writes, its method, sizes, weights and origin.
select *
from dictionaries
where dictionary_id = $dictionary_id
