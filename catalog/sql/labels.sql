-- The labels of some features with their scores.
with wanted as (
    select unnest($dictionary_ids::varchar[]) as dictionary_id, unnest($feature_indices::integer[]) as feature_index
)
select dictionary_id, feature_index, label, score, ci_low, ci_high, chance, above_chance, n_judged
from feature_cards
semi join wanted using (dictionary_id, feature_index)
where label is not null
