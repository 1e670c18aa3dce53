-- The dictionaries with at least one match, mutual or not: those that were compared with another one.
select dictionary_a as dictionary_id from matches
union
select dictionary_b from matches
