-- One wide row per feature and activation set: where it lives, how it fires, its best explanation with score
-- and interval, and how many features of other dictionaries it matches mutually.
with homes as (
    select
        dictionary_id,
        alias,
        reads[1].model_id as model_id,
        reads[1].hookpoint as hookpoint,
        architecture,
        unit_type,
        d_sae
    from dictionaries
),
best as (
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
                'n_judged': s.n_judged,
                'explained_at': e.created_at
            },
            {'ci_low': coalesce(s.ci_low, -1), 'score': coalesce(s.score, -1), 'at': e.created_at}
        ) as e,
        count(*) as n_explanations
    from explanations as e
    left join explanation_scores as s using (dictionary_id, activation_set_id, feature_index, explanation_id)
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
    best.e.text as label,
    best.e.explanation_id as explanation_id,
    best.e.explainer as explainer,
    best.e.model as explainer_model,
    best.e.scorer as scorer,
    best.e.judge as judge,
    best.e.variant as variant,
    best.e.score as score,
    best.e.ci_low as ci_low,
    best.e.ci_high as ci_high,
    best.e.chance as chance,
    best.e.n_judged as n_judged,
    best.e.explained_at as explained_at,
    coalesce(best.n_explanations, 0) as n_explanations,
    coalesce(matched.n_matches, 0) as n_matches,
    lower(best.e.text) as label_lower,
    f.fingerprint
from features as f
left join homes as h using (dictionary_id)
left join best using (dictionary_id, activation_set_id, feature_index)
left join matched using (dictionary_id, feature_index)
