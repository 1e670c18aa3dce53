-- Density and decoder geometry of every feature of a dictionary on an activation set.
select
    feature_index,
    density,
    mean_activation,
    decoder_norm,
    encoder_decoder_cosine,
    list_extract(nearest_by_decoder, 1).score as nearest_cosine
from features
where dictionary_id = $dictionary_id and activation_set_id = $activation_set_id
order by feature_index
