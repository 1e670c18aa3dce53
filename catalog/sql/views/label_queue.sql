-- What to explain or review next, and why: one row per feature that fires on an activation set. priority is the sum of
-- the gains, each between 0 and 1 and times the weight in the select below: a feature without a label (or with one whose
-- evidence lost a document), one that a person doubts, a label that is not above chance, judges of one scorer that disagree, a density
-- at which concepts are found (1 at one token in a thousand, 0 at one in a million and at every token), and matches in
-- other dictionaries, which share the label. reason is the largest part. Order the rows of a dictionary by priority.
with by_scorer as (
    select
        dictionary_id,
        activation_set_id,
        feature_index,
        explanation_id,
        max(value) - min(value) as spread
    from latest_scores
    where metric = 'balanced_accuracy' and variant = 'mixed'
    group by dictionary_id, activation_set_id, feature_index, explanation_id, scorer
    having count(*) > 1
),
disputes as (
    select dictionary_id, activation_set_id, feature_index, explanation_id, max(spread) as spread
    from by_scorer
    group by dictionary_id, activation_set_id, feature_index, explanation_id
),
votes as (
    select dictionary_id, feature_index, count(*) as n_votes
    from annotations
    where kind = 'vote' and text in ('wrong', 'unsure')
    group by dictionary_id, feature_index
),
gains as (
    select
        f.* exclude (label_lower, fingerprint),
        case when f.label is null or f.is_stale then 1.0 else 0.0 end as unlabelled,
        least(1.0, coalesce(v.n_votes, 0)) as doubted,
        case when not f.above_chance then 1.0 else 0.0 end as unproven,
        least(1.0, 2 * coalesce(d.spread, 0.0)) as disputed,
        greatest(0.0, 1 - abs(log10(greatest(f.density, 1e-9)) + 3) / 3) as useful_density,
        f.n_matches / (f.n_matches + 1) as fan_out
    from feature_observations as f
    left join disputes as d using (dictionary_id, activation_set_id, feature_index, explanation_id)
    left join votes as v using (dictionary_id, feature_index)
    where f.status <> 'unseen'
),
weighted as (
    select
        *,
        [
            {'part': 4 * unlabelled, 'reason': 'has no current label'},
            {'part': 3 * doubted, 'reason': 'a person doubts the label'},
            {'part': 2 * unproven, 'reason': 'the label is not above chance'},
            {'part': 1 * disputed, 'reason': 'judges disagree about the label'},
            {'part': 1 * useful_density, 'reason': 'fires as often as concepts do'},
            {'part': 1 * fan_out, 'reason': 'matches features of other dictionaries'}
        ] as parts
    from gains
)
select
    dictionary_id,
    activation_set_id,
    feature_index,
    list_sum(list_transform(parts, lambda p: p.part)) as priority,
    list_sort(parts, 'desc')[1].reason as reason,
    * exclude (dictionary_id, activation_set_id, feature_index, parts)
from weighted
