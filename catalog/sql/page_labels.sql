-- The best labels of some features, each with its score against the hardest negatives.
with wanted as (
    select unnest($dictionary_ids::varchar[]) as dictionary_id, unnest($feature_indices::integer[]) as feature_index
)
select dictionary_id, feature_index, label, score, ci_low, ci_high, chance, n_judged
from feature_cards
semi join wanted using (dictionary_id, feature_index)
where label is not null
qualify row_number() over (
    partition by dictionary_id, feature_index
    order by ci_low desc nulls last, score desc nulls last, explained_at desc
) = 1
