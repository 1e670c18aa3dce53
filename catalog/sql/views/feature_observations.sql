-- One wide row per feature and activation set on which it was looked at: its dictionary, the model and corpus of the set
-- (set_model_id, set_hookpoint, corpus_id), its firing, its label with score and interval, and the number of features of
-- other dictionaries that match it mutually. is_home marks the set on which the dictionary was trained. The label is the
-- newest text of the explainer that the pipeline names first, whatever its score: the best of several would have a score
-- that is biased upwards. metric says what score is: balanced_accuracy, auroc or correlation. is_stale: a document was removed from the evidence of the label since its stage last ran.
-- verdict: the score against its floors: 'not above chance'; 'above all floors' of those that were measured (floors_above);
-- 'above chance only' if it does not exceed one of them (floors_not_above); 'above chance, no floor measured'; null if
-- chance is not known. A label exceeds a floor that is another dictionary if 5 % of the labels there at most score as high
-- (threshold of score_floors), and the best single token if the 95 % interval of the difference of both lies above 0.
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
                'metric': s.metric,
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
        arg_max(
            {'scorer': s.scorer, 'judge': s.judge, 'metric': s.metric, 'variant': s.variant, 'score': s.score, 'ci_high': s.ci_high},
            {'place': coalesce(c.place, -2_000_000_000), 'at': e.created_at}
        ) filter (where e.explainer = 'single_token' and s.score is not null) as token,
        count(*) as n_explanations
    from explanations as e
    left join explanation_scores as s using (dictionary_id, activation_set_id, feature_index, explanation_id)
    left join commit_order as c on c.table_name = 'explanations' and c.slice = e.slice
    where e.status = 'ok'
    group by e.dictionary_id, e.activation_set_id, e.feature_index
),
limits as (
    select
        dictionary_id, activation_set_id, explainer, writer, scorer, judge, metric, variant,
        list({'floor': floor, 'threshold': threshold} order by floor) as limits
    from score_floors
    where threshold is not null
    group by all
),
judged as (
    select
        n.dictionary_id, n.activation_set_id, n.feature_index, n.e, n.n_explanations,
        list_transform(coalesce(l.limits, []), lambda x: {'floor': x.floor, 'is_above': n.e.score > x.threshold})
        || case
            when n.e.explainer <> 'single_token' and n.token.scorer = n.e.scorer and n.token.judge = n.e.judge
                and n.token.metric = n.e.metric and n.token.variant = n.e.variant
                then [{
                    'floor': 'single_token',
                    'is_above': n.e.score - n.token.score
                        > sqrt((n.e.score - n.e.ci_low) ** 2 + (n.token.ci_high - n.token.score) ** 2)
                }]
            else []
        end as floors
    from named as n
    left join limits as l
        on l.dictionary_id = n.dictionary_id and l.activation_set_id = n.activation_set_id and l.explainer = n.e.explainer
        and l.writer = coalesce(n.e.model, 'none') and l.scorer = n.e.scorer and l.judge = n.e.judge
        and l.metric = n.e.metric and l.variant = n.e.variant
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
    j.e.text as label,
    j.e.explanation_id as explanation_id,
    j.e.explainer as explainer,
    j.e.model as explainer_model,
    j.e.scorer as scorer,
    j.e.judge as judge,
    j.e.variant as variant,
    j.e.metric as metric,
    j.e.score as score,
    j.e.ci_low as ci_low,
    j.e.ci_high as ci_high,
    j.e.chance as chance,
    j.e.above_chance as above_chance,
    j.e.n_judged as n_judged,
    j.e.explained_at as explained_at,
    coalesce(j.n_explanations, 0) as n_explanations,
    coalesce(matched.n_matches, 0) as n_matches,
    lower(j.e.text) as label_lower,
    f.fingerprint,
    coalesce(f.activation_set_id = h.home, true) as is_home,
    a.model_id as set_model_id,
    a.hookpoint as set_hookpoint,
    a.corpus_id,
    coalesce(j.e.is_stale, false) as is_stale,
    case
        when j.e.above_chance is null then null
        when not j.e.above_chance then 'not above chance'
        when len(j.floors) = 0 then 'above chance, no floor measured'
        when list_bool_and(list_transform(j.floors, lambda x: x.is_above)) then 'above all floors'
        else 'above chance only'
    end as verdict,
    list_transform(list_filter(j.floors, lambda x: x.is_above), lambda x: x.floor) as floors_above,
    list_transform(list_filter(j.floors, lambda x: not x.is_above), lambda x: x.floor) as floors_not_above
from features as f
left join homes as h using (dictionary_id)
left join judged as j using (dictionary_id, activation_set_id, feature_index)
left join matched using (dictionary_id, feature_index)
left join activation_sets as a on a.activation_set_id = f.activation_set_id
