-- One wide row per feature and activation set on which it was looked at: its dictionary, the model and corpus of the set
-- (set_model_id, set_hookpoint, corpus_id), its firing, its label with score and interval, and the number of features of
-- other dictionaries that match it mutually. is_home marks the set on which the dictionary was trained. The label is the
-- newest text of the explainer that the pipeline names first, whatever its score: the best of several would have a score
-- that is biased upwards. is_stale: a document was removed from the evidence of the label since its stage last ran.
with homes as (
    select
        dictionary_id,
        activation_set_id as home,
        alias,
        reads[1].model_id as model_id,
        reads[1].hookpoint as hookpoint,
        architecture,
        unit_type,
        d_sae
    from dictionaries
),
named as (
    select
        e.dictionary_id,
        e.activation_set_id,
        e.feature_index,
        arg_max(
            {
                'explanation_id': e.explanation_id,
                'text': e.text,
                'explainer': e.explainer,
                'model': e.model,
                'scorer': s.scorer,
                'judge': s.judge,
                'variant': s.variant,
                'score': s.score,
                'ci_low': s.ci_low,
                'ci_high': s.ci_high,
                'chance': s.chance,
                'above_chance': s.above_chance,
                'n_judged': s.n_judged,
                'explained_at': e.created_at,
                'is_stale': coalesce(e.stale_in > c.place, false)
            },
            {
                'first': -coalesce(e.position, 1000000),
                'place': coalesce(c.place, -2_000_000_000),
                'at': e.created_at,
                'id': e.explanation_id
            }
        ) as e,
        count(*) as n_explanations
    from explanations as e
    left join explanation_scores as s using (dictionary_id, activation_set_id, feature_index, explanation_id)
    left join commit_order as c on c.table_name = 'explanations' and c.slice = e.slice
    where e.status = 'ok'
    group by e.dictionary_id, e.activation_set_id, e.feature_index
),
partners as (
    select dictionary_a as dictionary_id, feature_a as feature_index, dictionary_b as other, feature_b as partner
    from matches
    where mutual
    union
    select dictionary_b, feature_b, dictionary_a, feature_a
    from matches
    where mutual
),
matched as (
    select dictionary_id, feature_index, count(*) as n_matches
    from partners
    group by dictionary_id, feature_index
)
select
    f.dictionary_id,
    f.activation_set_id,
    f.feature_index,
    h.alias,
    h.model_id,
    h.hookpoint,
    h.architecture,
    h.unit_type,
    f.status,
    f.density,
    f.n_tokens,
    f.max_activation,
    f.mean_activation,
    f.decoder_norm,
    f.encoder_decoder_cosine,
    f.top_tokens,
    named.e.text as label,
    named.e.explanation_id as explanation_id,
    named.e.explainer as explainer,
    named.e.model as explainer_model,
    named.e.scorer as scorer,
    named.e.judge as judge,
    named.e.variant as variant,
    named.e.score as score,
    named.e.ci_low as ci_low,
    named.e.ci_high as ci_high,
    named.e.chance as chance,
    named.e.above_chance as above_chance,
    named.e.n_judged as n_judged,
    named.e.explained_at as explained_at,
    coalesce(named.n_explanations, 0) as n_explanations,
    coalesce(matched.n_matches, 0) as n_matches,
    lower(named.e.text) as label_lower,
    f.fingerprint,
    coalesce(f.activation_set_id = h.home, true) as is_home,
    a.model_id as set_model_id,
    a.hookpoint as set_hookpoint,
    a.corpus_id,
    coalesce(named.e.is_stale, false) as is_stale
from features as f
left join homes as h using (dictionary_id)
left join named using (dictionary_id, activation_set_id, feature_index)
left join matched using (dictionary_id, feature_index)
left join activation_sets as a on a.activation_set_id = f.activation_set_id
