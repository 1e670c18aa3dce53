-- The features of one comparison, each with its label: those that changed most surely first, and of equally sure ones
-- those whose density changed by the largest factor.
select
    s.feature_index, c.label, s.density_a, s.density_b, s.effect, s.ci_low, s.ci_high, s.pearson, s.jaccard, s.overlap_top,
    s.consistency, s.projected_shift, s.n_documents_a, s.n_documents_b, s.n_firing_a, s.n_firing_b,
    s.is_silent, s.revived, s.probe_auroc, s.probe_null, s.p_value, s.q_value
from feature_shifts as s
left join feature_cards as c using (dictionary_id, feature_index)
where s.dictionary_id = $dictionary_id and s.set_a = $set_a and s.set_b = $set_b and s.comparison = $comparison
order by s.q_value, abs(ln((s.density_b + 1e-9) / (s.density_a + 1e-9))) desc, abs(s.effect) desc, s.feature_index
limit $limit
