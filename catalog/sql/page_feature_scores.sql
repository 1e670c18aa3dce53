-- Every score of every explanation of a feature.
select
    explanation_id, scorer, judge, metric, variant, seed, value, ci_low, ci_high, chance, n, answered_share, negatives,
    created_at
from scores
where dictionary_id = $dictionary_id and feature_index = $feature_index
order by explanation_id, metric <> 'balanced_accuracy', scorer, variant, metric, judge, seed
limit 1000
