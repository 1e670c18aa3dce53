-- Every name of a dictionary: its id, and the alias that refers to it now. An alias that was never assigned refers to
-- the newest dictionary with that alias.
select dictionary_id as name, dictionary_id
from dictionaries
union all
select a.alias, a.dictionary_id
from current_aliases as a
where exists (select 1 from dictionaries as d where d.dictionary_id = a.dictionary_id)
union all
select alias, arg_max(dictionary_id, {'place': coalesce(c.place, -2_000_000_000), 'at': created_at})
from dictionaries
left join (select slice, place from commit_order where table_name = 'dictionaries') as c using (slice)
where alias not in (select alias from aliases)
group by alias
