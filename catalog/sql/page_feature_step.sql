-- The features before and after one, those that never fired left out.
select
    max(feature_index) filter (where feature_index < $feature_index) as previous_index,
    min(feature_index) filter (where feature_index > $feature_index) as next_index
from features
where dictionary_id = $dictionary_id and activation_set_id = $activation_set_id and status <> 'unseen'
