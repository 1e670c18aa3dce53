-- The dictionary that a name refers to now, since when, and the number of dictionaries that it referred to.
select alias, dictionary_id, valid_from, n_meanings
from current_aliases
where alias = $alias
