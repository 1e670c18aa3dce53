-- The dictionary that each name means now.
select
    alias,
    max_by(dictionary_id, valid_from) as dictionary_id,
    max(valid_from) as valid_from,
    count(*) as n_meanings
from aliases
group by alias
