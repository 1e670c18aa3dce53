-- What a name means now, since when, and how many dictionaries it has meant.
select alias, dictionary_id, valid_from, n_meanings
from current_aliases
where alias = $alias
