-- The dictionary that each alias refers to now: the last one assigned, in the order of the catalogue's versions.
select
    a.alias,
    max_by(a.dictionary_id, {'place': coalesce(c.place, -2_000_000_000), 'at': a.valid_from}) as dictionary_id,
    max_by(a.valid_from, {'place': coalesce(c.place, -2_000_000_000), 'at': a.valid_from}) as valid_from,
    count(*) as n_meanings
from aliases as a
left join commit_order as c on c.table_name = 'aliases' and c.slice = a.slice
group by a.alias
