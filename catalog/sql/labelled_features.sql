-- The features of a dictionary on one activation set whose label beats chance.
select feature_index
from feature_observations
where dictionary_id = $dictionary_id and activation_set_id = $activation_set_id and above_chance
order by feature_index
