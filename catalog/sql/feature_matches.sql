-- Features of other dictionaries that match one, in both directions, best first.
with pairs as (
    select dictionary_b as dictionary_id, feature_b as feature_index, method, score, rank, mutual, margin, n, p_value,
        q_value, verdict, ci_low, ci_high, n_documents, same_above, floor_score
    from matches
    where dictionary_a = $dictionary_id and feature_a = $feature_index
    union all
    select dictionary_a, feature_a, method, score, rank, mutual, margin, n, p_value, q_value, verdict, ci_low, ci_high,
        n_documents, same_above, null -- the floor is that of the other feature
    from matches
    where dictionary_b = $dictionary_id and feature_b = $feature_index
)
select *
from pairs
qualify row_number() over (partition by dictionary_id, feature_index, method order by rank, q_value nulls last) = 1
order by mutual desc, q_value nulls last, abs(score) desc
limit $limit
