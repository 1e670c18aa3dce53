-- One feature on one activation set, with its label and score: by default on the set on which its dictionary was trained.
select f.*, d.alias, d.architecture, d.d_sae, d.reads, d.writes, d.reads[1].model_id as model_id, d.reads[1].hookpoint as hookpoint,
    a.corpus_id, a.n_valid_tokens, c.is_home, a.model_id as set_model_id, a.hookpoint as set_hookpoint, c.label, c.explanation_id, c.scorer, c.judge, c.variant, c.score, c.ci_low, c.ci_high, c.chance,
    c.above_chance, coalesce(c.is_stale, false) as is_stale
from features as f
join dictionaries as d using (dictionary_id)
left join activation_sets as a on a.activation_set_id = f.activation_set_id
left join (
    select * from feature_observations where dictionary_id = $dictionary_id and feature_index = $feature_index
) as c on c.activation_set_id = f.activation_set_id
where
    f.dictionary_id = $dictionary_id
    and f.feature_index = $feature_index
    and ($activation_set_id::varchar is null or f.activation_set_id = $activation_set_id::varchar)
order by f.activation_set_id = d.activation_set_id desc, a.n_valid_tokens desc nulls last, f.activation_set_id
limit 1
