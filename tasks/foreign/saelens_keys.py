"""Settings that ``cfg.json`` of SAELens may hold, from its first versions to 6.

What is read decides how a dictionary encodes; what is harmless belongs to the training, to the run that made
it or to where it is published.
"""

from tasks.foreign.config_keys import Keys

_READ = """
    activation_fn_kwargs activation_normalization_factor apply_b_dec_to_input architecture
    bottleneck_factor d_in d_out d_sae finetuning_scaling_factor hf_hook_name hf_hook_name_out hook_name
    hook_name_out k kval_topk matryoshka_widths max_iterations metadata model_name n_attn_layers n_heads
    normalize_activations rescale_acts_by_decoder_norm residual_threshold sae_diff_type
    stop_on_duplicate_support tied_weights
"""
_HARMLESS = """
    adam_beta1 adam_beta2 autocast autocast_lm aux_loss_coefficient b_dec_init_method context_size
    dataset_path dataset_trust_remote_code dead_feature_threshold decoder_heuristic_init
    decoder_heuristic_init_norm decoder_init_norm decoder_orthogonal_init device dtype
    enable_gradient_clipping expansion_factor featlas hook_layer hook_layer_out
    init_encoder_as_decoder_transpose jumprelu_bandwidth jumprelu_init_threshold
    jumprelu_sparsity_loss_mode jumprelu_ste_to_input jumprelu_tanh_scale l0_coefficient
    l0_warm_up_steps l1_coefficient l1_warm_up_steps lp_norm lr model_class_name
    model_from_pretrained_kwargs mse_loss_normalization neuronpedia_id noise_scale normalize_sae_decoder
    pre_act_loss_coefficient prepend_bos sae_lens_training_version sae_lens_tutorial_version
    sae_lens_version scale_sparsity_penalty_by_decoder_norm seed seqpos_slice target_l0
    topk_threshold_lr training_architecture training_architecture_details training_tokens
    use_ghost_grads use_matryoshka_aux_loss use_sparse_activations
"""

SAELENS_KEYS = Keys(
    read=frozenset(_READ.split()),
    harmless=frozenset(_HARMLESS.split()),
    allowed={
        "activation_fn": ("relu", "topk", None),
        "reshape_activations": ("none", "hook_z", None),
        "hook_head_index": (None,),
    },
)
