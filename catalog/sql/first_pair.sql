-- The two dictionaries with the most mutual matches; no row if none were compared.
select dictionary_a, dictionary_b
from matches
where mutual and rank = 0
group by dictionary_a, dictionary_b
order by count(*) desc, dictionary_a, dictionary_b
limit 1
