"""One definition per number, shown as a tooltip."""

STATES = {
    "running": "It is running now.",
    "completed": "Every stage is complete: this run computed it, or it was already done.",
    "committed": "Its rows are in the catalogue.",
    "failed": "It ended with an error; what was committed before stays.",
    "crashed": "Its process ended without a report; what was committed before stays.",
    "cancelled": "A person stopped it. This is not a failure; run it again to continue.",
    "lost": "It completed, but files with its rows were damaged later and removed by a repair: run it again.",
}
"""Meaning of the states of runs and of stages."""

DENSITY = "Share of valid tokens on which the feature fires."
MAX_ACTIVATION = "Largest activation of the feature on this activation set."
FVU_ALONE = (
    "Fraction of variance unexplained, pooled over eval documents (0 is perfect, 1 is the mean). Version 1."
)
FVU = f"{FVU_ALONE} In brackets: the best linear map with as many directions as fire on a token (PCA)."
WITHOUT_MASSIVE = (
    "The same without tokens of massive norm, which can dominate it; the other figure includes them."
)
SKIP_SHARE = "Share of the variance that the linear skip path explains without the features."
DELTA_CE = "Increase of the model's cross-entropy with the reconstruction, in nats per token."
KL = "KL divergence of the predictions with the reconstruction from the model's own, in nats per token."
CE_RECOVERED = (
    "Cross-entropy recovered on eval documents: 1 if the reconstruction costs nothing, 0 if it is no "
    "better than replacing the activation by its mean. The mean is that of the train tokens read for the "
    "controls, at most 100,000 unless the pipeline says otherwise. Version 1."
)
L0 = "Mean number of features that fire on a token, over eval documents. Version 1."
UNSEEN = "Share of features that never fired on the activation set."
SILENT_ON_EVAL = (
    "Share of features that never fired on the eval tokens. These are a part of the activation set, so this "
    "is at least the share of unseen features."
)
DENSE_SHARE = "Share of features that fire on more than a tenth of the tokens."
SHRINKAGE = (
    "Mean squared length of the reconstruction over its product with the input: below 1 it is too short."
)
NEAREST_COSINE = "Cosine of a feature's direction with the nearest other one, mean over features."
FIRST_LAST_COSINE = (
    "Cosine of the directions at the first and the last hookpoint, over features that both share."
)
PROBE_ACCURACY = "Balanced accuracy of a probe for a document label that reads only this many features."
ABSORPTION = "Share of a letter's tokens that features of single words carry while its own feature is silent."
ABSORPTION_FULL = "The same for tokens on which none of the letter's features fires."
SPLIT = "Number of features over which a letter is split."
PLANTED_MMCS = "Synthetic data: largest cosine of a feature with a planted direction, mean over directions."
PLANTED_RECALL = "Synthetic data: share of the planted directions that have a feature."
PLANTED_PRECISION = "Synthetic data: share of the features that have a planted direction."
PLANTED_ABSORPTION = (
    "Synthetic data: share of a parent's tokens with a child on which its own feature is silent."
)
SEED_MMCS = "Largest cosine with a feature of the same dictionary trained from another seed, mean."
SEED_SHARE = "Share of features whose nearest feature under another seed is at least this close."
SEED_SHARED = "Share of features with the same partner by decoder and by encoder, both cosines above 0.7."
MSE_SEQMEAN = "Squared error per activation, mean over sequences rather than tokens."
MSE_SPECIAL = "The same on special tokens of the chat template."
PEARSON = "Correlation of the activations on the same text on both sides; of a comparison the median."
JACCARD = "Tokens on which both sides fire over those on which one does, on the same text."
AUROC = (
    "Probability that the feature's largest activation is higher in a document of this value than in another "
    "one (AUROC). The bar begins at 0.5, chance; a hollow bar means lower."
)
MI_RATIO = (
    "Information that firing in a document gives about the value, over its mean for random values of the "
    "same number of documents: 1 is chance."
)
ASSOCIATION_Q = (
    "Expected share of false findings among those at least as sure, over all features and values of the "
    "label (Benjamini-Hochberg)."
)
DECODABLE = (
    "AUROC of a linear probe that reads the activations of a hookpoint and predicts on which tokens of eval "
    "documents the feature fires. The bar begins at 0.5, chance."
)
DECODABLE_EARLIER = (
    "Share of the features that a linear probe predicts from an earlier hookpoint of the model than the "
    "dictionary's own."
)
DECODABLE_SHARE = "Share of the features that a linear probe predicts from this hookpoint of the model."
STARTED_FROM = "Dictionary whose weights this training began with; the optimiser was new."
SILENT_ON_B = (
    "Features that fire on b at most a twentieth as often as on a. Still decodable: a linear probe of the "
    "activations of b finds where they fire on a (AUROC of at least 0.9 on other documents, above shuffled "
    "labels)."
)
STILL_DECODABLE = (
    "It is silent on b, but a linear probe of b still finds where it fires on a: the model has the "
    "information, and this feature does not respond to it."
)
PARTLY_DECODABLE = (
    "It is silent on b, and a linear probe of b finds where it fires on a better than chance, with an AUROC "
    "between 0.7 and 0.9."
)
GONE = "It is silent on b, and a linear probe of b does not find where it fires on a."
UNDECIDED = "It is silent on b, and fires on too few tokens of a for a probe to decide."
SEPARATION = (
    "Mean silhouette of the eval documents by their mean codes and a document label: 1 is far apart. Without "
    "a difference it is 0 or below, lower with more classes: compare with shuffled labels."
)
ACCURACY_KEPT = (
    "Balanced accuracy of a probe for a document label on m features whose own label beats chance, over that "
    "of a probe on all activations."
)
KEPT_AREA = "The same, mean over the logarithm of m."
EFFECT = (
    "Positive if b is larger: difference of the mean activation for two models, log odds ratio of firing in "
    "a document for two groups of documents. In brackets the 95 % interval over documents."
)
CHANGED = "Features whose change has a q-value of at most 0.05, of those that were compared."
FVU_SIDES = "Fraction of variance unexplained on the set of side a and on that of side b."
LABELLED = "Share of firing features with at least one explanation."
ABOVE_CHANCE = (
    "Share of firing features whose label beats chance: the 95 % interval of its balanced accuracy minus "
    "that of shuffled labels on the same examples lies above 0. Labels without information reach 2.5 %."
)
ABOVE_FLOORS = (
    "Share of firing features whose label beats chance and every floor that was measured: 5 % of the labels "
    "of random directions, of a frozen decoder or on random weights at most score as high, and the best "
    "single token of the feature scores clearly lower."
)
FLOORS = (
    "Floors show what a label reaches without a feature: labels of random directions, of a dictionary with a "
    "random frozen decoder, and on the model with random weights (5 % of them at most may score as high), "
    "and the best single token of the feature on the same examples."
)
BESIDE_RANDOM = "In brackets: the same share for random directions, whose labels describe no feature."
FROZEN_SHARE = "For a dictionary with a random frozen decoder it is {}."
NO_RANDOM = (
    "Train a dictionary of the architecture random_directions to see what labels without a feature reach."
)
MATCHED = "Share of firing features with a mutual best match in another dictionary."
Q_VALUE = "Expected share of false matches among those at least as strong (Benjamini-Hochberg)."
VERDICT = (
    "same: mutual best partners, significant, and for directions above a cosine of 0.7; split, merged, "
    "absorbed: one fires only where the other does; no clear match: none of these, even if mutual best."
)
FLOOR_SHARE = "The same share with random directions in place of the other dictionary."
FLOOR_SCORE = "Score of the best partner among random directions in place of the other dictionary."
SAME_ABOVE = "Score that best partners must exceed to be called the same."
TOKEN_SHARES = "Tokens that the label names, with their share of the feature's activation mass."
MARGIN = "Score of the match minus that of the next best partner."
SCORE = (
    "Score of the label by the first scorer of the pipeline, with its 95 % interval: balanced accuracy if it "
    "says yes or no, else AUROC or correlation. The mark is chance, measured with shuffled labels. Ranked by "
    "the lower end of the interval."
)
COACTIVATION = "Tokens on which both fire over tokens on which either fires (Jaccard)."
COSINE = "Cosine of the decoder directions."
COSINE_NULL = (
    "Cosine that 95 % of random directions with the covariance of the activations have at most with their "
    "nearest one."
)
CONSTRUCTIVE = "They point alike, beyond random directions, and fire together more often than by chance."
INTERFERENCE = "They point alike, beyond random directions, but fire together less often than by chance."
CONFOUNDED = (
    "Documents of which one context has only this feature and another only that one are more frequent than "
    "by chance (q at most 0.05): the corpus brings the two together. Beside it how often one context has "
    "both. 1 is chance."
)
DECODER_NORM = "Euclidean length of the feature's decoder row."
ENCODER_COSINE = "Cosine between the feature's encoder column and decoder row."
LOGITS = (
    "Decoder direction through the gain of the final norm and the unembedding: which next tokens the feature "
    "makes more likely."
)
LOGIT_SKEWNESS = (
    "Skewness of its effects on the logits of all tokens: positive if it promotes a few tokens far above the "
    "others. In brackets what 95 % of random directions stay below."
)
LOGIT_KURTOSIS = (
    "Excess kurtosis of its effects on the logits of all tokens: large if a few tokens stand out, 0 if the "
    "effects are normal. In brackets what 95 % of random directions stay below."
)
GROUP = "Matryoshka prefix or frequency stratum of the feature: 0 is the coarsest or most frequent."
LAYER = "The feature reads this hookpoint, and writes those of its own and all later layers."
PARENT = "Feature of an earlier group that fires most often on the same tokens."
THRESHOLD = "Activation the feature must exceed to count as firing."
SELECTION_STEP = "Mean step at which matching pursuit selects the feature: low is coarse, high is fine."
SPECIAL_SHARE = "Share of the feature's activation mass on special and template tokens."
HEAD_SHARES = "Share of each attention head in the length of the feature's decoder row."
SITE_NORMS = "Euclidean length of the feature's decoder row at each hookpoint that it writes."
RELATIVE_NORM = (
    "Decoder norm at the last hookpoint over the sum of all, each in units of the activations there: 0.5 is "
    "shared by two, 1 belongs only to the last one."
)
ERROR_RATIO = (
    "Latent scaling of the reconstruction errors, first over last. High means complete shrinkage: the first "
    "model has the information, but its decoder row was driven to zero."
)
RECONSTRUCTION_RATIO = (
    "Latent scaling of the reconstructions, first over last. High means decoupling: other features "
    "reconstruct the same direction for the first model."
)
DFA_OFFSET = (
    "Position of the token from which attention reads the feature most: the source with the largest "
    "contribution, on most of its firings."
)
DFA_ENTROPY = "Spread of the contributions of source tokens, in nats: 0 is a single token."
