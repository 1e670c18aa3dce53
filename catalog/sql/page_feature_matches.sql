-- Features of other dictionaries that match one, both directions, best first, with their labels.
with pairs as (
    select dictionary_b as dictionary_id, feature_b as feature_index, method, score, rank, mutual, margin, n, p_value, q_value, verdict
    from matches
    where dictionary_a = $dictionary_id and feature_a = $feature_index
    union all
    select dictionary_a, feature_a, method, score, rank, mutual, margin, n, p_value, q_value, verdict
    from matches
    where dictionary_b = $dictionary_id and feature_b = $feature_index
)
select p.*, f.label
from pairs as p
left join feature_cards as f using (dictionary_id, feature_index)
qualify row_number() over (
    partition by p.dictionary_id, p.feature_index, p.method order by p.rank, f.n_judged desc nulls last
) = 1
order by p.mutual desc, p.q_value nulls last, abs(p.score) desc
limit 24
