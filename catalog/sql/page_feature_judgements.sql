-- The judged items of one explanation.
select
    scorer, judge, seed, item, dictionary_id, activation_set_id, feature_index, band, rank, truth, answer, probability
from judgements
where dictionary_id = $dictionary_id and feature_index = $feature_index and explanation_id = $explanation_id
order by scorer, judge, seed, item
limit 500
