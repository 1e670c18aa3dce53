"""One definition per number, shown by hovering over it."""

STATES = {
    "running": "It goes on now.",
    "completed": "Every stage is complete, computed by this run or found finished.",
    "committed": "Its rows are in the catalogue.",
    "failed": "It ended with an error; what was committed before stays.",
    "crashed": "Its process is gone without a word; what was committed before stays.",
    "cancelled": "Somebody stopped it; this is no failure, and running it again goes on from there.",
    "lost": "It ended well, but files with its rows were damaged later and repaired away: run it again.",
}
"""What the states of runs and of stages mean."""

DENSITY = "Share of valid tokens on which the feature fires."
MAX_ACTIVATION = "Largest activation of the feature on this activation set."
FVU_ALONE = (
    "Fraction of variance unexplained, pooled over eval documents (0 is perfect, 1 is the mean). Version 1."
)
FVU = f"{FVU_ALONE} In brackets that of the best linear map of as many directions as fire on a token."
WITHOUT_MASSIVE = (
    "The same without the tokens of massive norm, which can decide it alone; the figure beside it has them."
)
SKIP_SHARE = "Share of the variance that the linear path beside the features explains without them."
DELTA_CE = "Cross-entropy that the reconstruction adds to the model's predictions, in nats per token."
KL = "KL divergence of the predictions with the reconstruction from the model's own, in nats per token."
CE_RECOVERED = (
    "Cross-entropy recovered on eval documents: 1 when the reconstruction costs nothing, 0 when it is no "
    "better than replacing the activation by its mean. Version 1."
)
L0 = "Features that fire on a token, mean over eval documents. Version 1."
UNSEEN = "Share of features that never fired on the activation set."
SILENT_ON_EVAL = (
    "Share of features that never fired on the eval tokens: a part of the activation set, so this is at "
    "least the share of unseen features."
)
DENSE_SHARE = "Share of features that fire on more than a tenth of the tokens."
SHRINKAGE = (
    "Mean squared length of the reconstruction over its product with the input: below 1 it is too short."
)
NEAREST_COSINE = "Cosine of a feature's direction with the nearest other one, mean over features."
FIRST_LAST_COSINE = (
    "Cosine of the directions at the first and the last hookpoint, of features that both share."
)
PROBE_ACCURACY = "Balanced accuracy of a probe for a document label that sees only that many features."
ABSORPTION = "Share of a letter's tokens that features of single words carry while its own feature is silent."
ABSORPTION_FULL = "The same, of tokens where none of the letter's features fires at all."
SPLIT = "Features a letter is spread over: more mean that it was split."
PLANTED_MMCS = "Synthetic data: largest cosine of a feature with a planted direction, mean over those."
PLANTED_RECALL = "Synthetic data: share of the planted directions that a feature has."
PLANTED_PRECISION = "Synthetic data: share of the features that have a planted direction."
PLANTED_ABSORPTION = (
    "Synthetic data: share of a parent's tokens with a child on which its own feature is silent."
)
SEED_MMCS = "Largest cosine of a feature with one of the same dictionary trained from another seed, mean."
SEED_SHARE = "Share of features whose nearest in the dictionary of another seed is that near."
SEED_SHARED = "Share of features whose partner by decoder and by encoder is the same, both cosines above 0.7."
MSE_SEQMEAN = "Squared error per activation, mean over sequences rather than tokens."
MSE_SPECIAL = "The same on special tokens of the chat template."
LABELLED = "Share of firing features with at least one explanation."
ABOVE_CHANCE = (
    "Share of firing features whose label beats chance: the 95 % interval of its balanced accuracy minus "
    "that of shuffled labels on the same examples lies above 0. Of labels that say nothing about 2.5 % do."
)
BESIDE_RANDOM = "In brackets the same share of random directions: what labels of no feature at all reach."
NO_RANDOM = (
    "Train a dictionary of the architecture random_directions to see what labels of no feature at all reach."
)
MATCHED = "Share of firing features with a mutual best match in another dictionary."
Q_VALUE = "Expected share of false matches among those at least as strong (Benjamini and Hochberg)."
VERDICT = (
    "same: each other's best, significant, and for directions above a cosine of 0.7; split, merged, "
    "absorbed: one fires only where the other does; no clear match: none of these, even if mutual best."
)
FLOOR_SHARE = "The same share where the partners are random directions in the place of the other dictionary."
FLOOR_SCORE = "Score of the best partner among random directions in the place of the other dictionary."
SAME_ABOVE = "Score that best partners must exceed to be called the same."
TOKEN_SHARES = "Tokens that the label names with their share of the feature's activation mass."
MARGIN = "Score of the match minus that of the next best partner."
SCORE = (
    "Balanced accuracy of the label, as the first scorer of the pipeline measured it, with its 95 % "
    "interval; the mark is chance, measured with shuffled labels. Ranked by the lower end of the interval."
)
COACTIVATION = "Tokens on which both fire over tokens on which either fires (Jaccard)."
COSINE = "Cosine of the decoder directions."
DECODER_NORM = "Euclidean length of the feature's decoder row."
ENCODER_COSINE = "Cosine between the feature's encoder column and decoder row."
LOGITS = (
    "Decoder direction read through the final norm's gain and the unembedding: which next tokens the feature "
    "makes likelier."
)
GROUP = "Matryoshka prefix or frequency stratum the feature belongs to: 0 is the coarsest or most frequent."
LAYER = "The feature reads this hookpoint, and writes those of its own and all later layers."
PARENT = "Feature of an earlier group that fires most often where this one fires."
THRESHOLD = "Activation the feature must exceed to count as firing."
SELECTION_STEP = "Mean step at which matching pursuit selects the feature: low is coarse, high is fine."
SPECIAL_SHARE = "Share of the feature's activation mass that lies on special and template tokens."
HEAD_SHARES = "Share of each attention head in the length of the feature's decoder row."
SITE_NORMS = "Euclidean length of the feature's decoder row at each hookpoint it writes."
RELATIVE_NORM = (
    "Decoder norm at the last hookpoint over the sum of all, each in units of the activations there: 0.5 is "
    "shared by two, 1 belongs to the last alone."
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
    "Where the token stands that attention reads the feature from most: the source that contributes most, on "
    "most of its firings."
)
DFA_ENTROPY = "How spread the contributions of source tokens are, in nats: 0 is a single token."
