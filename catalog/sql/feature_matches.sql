-- Best partners of one feature in other dictionaries, in both directions.
with pairs as (
    select dictionary_b as dictionary_id, feature_b as feature_index, method, score, rank, mutual, margin, q_value, verdict
    from matches
    where dictionary_a = $dictionary_id and feature_a = $feature_index
    union
    select dictionary_a, feature_a, method, score, rank, mutual, margin, q_value, verdict
    from matches
    where dictionary_b = $dictionary_id and feature_b = $feature_index
)
select p.*, c.label, c.ci_low, c.chance, c.above_chance
from pairs as p
left join feature_cards as c using (dictionary_id, feature_index)
order by p.mutual desc, p.q_value nulls last, p.score desc
limit $limit
