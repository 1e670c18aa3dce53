-- One feature on one activation set, with its label and score: by default on the set on which its dictionary was trained.
with place as materialized (
    select
        d.alias, d.architecture, d.d_sae, d.reads, d.writes, d.reads[1].model_id as model_id,
        d.reads[1].hookpoint as hookpoint, c.corpus_id, a.n_valid_tokens, c.is_home, c.set_model_id, c.set_hookpoint,
        c.label, c.explanation_id, c.scorer, c.judge, c.variant, c.score, c.ci_low, c.ci_high, c.chance, c.above_chance,
        c.verdict, c.floors_above, c.floors_not_above,
        c.is_stale, c.activation_set_id
    from feature_observations as c
    join dictionaries as d using (dictionary_id)
    left join activation_sets as a on a.activation_set_id = c.activation_set_id
    where
        c.dictionary_id = $dictionary_id
        and c.feature_index = $feature_index
        and ($activation_set_id::varchar is null or c.activation_set_id = $activation_set_id::varchar)
    order by c.activation_set_id = d.activation_set_id desc, a.n_valid_tokens desc nulls last, c.activation_set_id
    limit 1
)
-- All columns of a feature are read for one row only.
select f.*, place.* exclude (activation_set_id)
from features as f
join place using (activation_set_id)
where f.dictionary_id = $dictionary_id and f.feature_index = $feature_index
