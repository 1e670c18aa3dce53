-- The best labels of some features of one dictionary.
select feature_index, label, score, ci_low, ci_high, chance, n_judged
from feature_cards
where dictionary_id = $dictionary_id and list_contains($feature_indices, feature_index)
qualify row_number() over (partition by feature_index order by ci_low desc nulls last) = 1
