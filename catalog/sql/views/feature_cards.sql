-- The features of every dictionary on the activation set on which it was trained, one wide row each: the columns of
-- feature_observations, which has the other sets too.
select * exclude (is_home, set_model_id, set_hookpoint, corpus_id)
from feature_observations
where is_home
