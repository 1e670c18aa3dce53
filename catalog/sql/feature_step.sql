-- The features before and after one, without those that never fired.
select
    max(feature_index) filter (where feature_index < $feature_index) as previous_index,
    min(feature_index) filter (where feature_index > $feature_index) as next_index
from features
where dictionary_id = $dictionary_id and activation_set_id = $activation_set_id and status <> 'unseen'
