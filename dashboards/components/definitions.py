"""One definition per number, shown by hovering over it."""

DENSITY = "Share of valid tokens on which the feature fires."
MAX_ACTIVATION = "Largest activation of the feature on this activation set."
FVU = (
    "Fraction of variance unexplained, pooled over eval documents (0 is perfect, 1 is the mean). Version 1. "
    "In brackets the same with principal components, as many as features fire on a token."
)
CE_RECOVERED = (
    "Cross-entropy recovered on eval documents: 1 when the reconstruction costs nothing, 0 when it is no "
    "better than replacing the activation by its mean. Version 1."
)
L0 = "Features that fire on a token, mean over eval documents. Version 1."
UNSEEN = "Share of features that never fired on the activation set."
LABELLED = "Share of firing features with at least one explanation."
ABOVE_CHANCE = (
    "Share of firing features whose best label beats chance: the lower end of the 95 % interval of its "
    "balanced accuracy lies above the score of shuffled labels."
)
MATCHED = "Share of firing features with a mutual best match in another dictionary."
Q_VALUE = "Expected share of false matches among those at least as strong (Benjamini and Hochberg)."
MARGIN = "Score of the match minus that of the next best partner."
SCORE = (
    "Balanced accuracy of the best label, with its 95 % interval; the mark is chance, measured with shuffled "
    "labels. Ranked by the lower end of the interval."
)
COACTIVATION = "Tokens on which both fire over tokens on which either fires (Jaccard)."
COSINE = "Cosine of the decoder directions."
DECODER_NORM = "Euclidean length of the feature's decoder row."
ENCODER_COSINE = "Cosine between the feature's encoder column and decoder row."
LOGITS = (
    "Decoder direction read through the final norm's gain and the unembedding: which next tokens the feature "
    "makes likelier."
)
GROUP = "Matryoshka prefix, frequency stratum or layer the feature belongs to, from 0."
PARENT = "Feature of an earlier group that fires most often where this one fires."
THRESHOLD = "Activation the feature must exceed to count as firing."
SELECTION_STEP = "Mean step at which matching pursuit selects the feature: low is coarse, high is fine."
SPECIAL_SHARE = "Share of the feature's activation mass that lies on special and template tokens."
HEAD_SHARES = "Share of each attention head in the length of the feature's decoder row."
SITE_NORMS = "Euclidean length of the feature's decoder row at each hookpoint it writes."
RELATIVE_NORM = (
    "Decoder norm at the last hookpoint over the sum of all: 0.5 is shared, 1 belongs to the last alone."
)
ERROR_RATIO = (
    "Latent scaling of the reconstruction errors, first over last. High means complete shrinkage: the first "
    "model has the information, its decoder row was driven to zero."
)
RECONSTRUCTION_RATIO = (
    "Latent scaling of the reconstructions, first over last. High means decoupling: other features "
    "reconstruct the same direction for the first model."
)
DFA_OFFSET = (
    "Where the source token stands that contributes most to the feature, on most of its firings: 0 is the "
    "token itself, -1 the one before."
)
DFA_ENTROPY = "How spread the contributions of source tokens are, in nats: 0 is a single token."
