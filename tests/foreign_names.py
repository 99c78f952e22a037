"""Options of the reference systems' scripts, and the Python names that their users know; taken from these systems."""

from __future__ import annotations

OPTIONS = {
    "ssd.pytorch": {
        "train.py": (
            "dataset dataset_root basenet batch_size resume start_iter num_workers cuda lr momentum "
            "weight_decay gamma visdom save_folder"
        ),
        "test.py": "trained_model save_folder visual_threshold cuda voc_root",
        "eval.py": "trained_model save_folder confidence_threshold top_k cuda voc_root cleanup",
        "demo/live.py": "weights cuda",
    },
    "mxnet-ssd": {
        "train.py": (
            "train-path train-list val-path val-list network batch-size resume finetune pretrained epoch "
            "prefix gpus begin-epoch end-epoch frequent data-shape label-width optimizer lr momentum wd "
            "mean-r mean-g mean-b lr-steps lr-factor freeze log monitor pattern num-class num-example "
            "class-names nms nms_topk overlap force use-difficult voc07 tensorboard min_neg_samples"
        ),
        "evaluate.py": (
            "rec-path list-path network batch-size num-class class-names epoch prefix gpus cpu data-shape "
            "mean-r mean-g mean-b nms overlap force use-difficult voc07 deploy frequent"
        ),
        "demo.py": (
            "network images dir ext epoch prefix cpu gpu data-shape mean-r mean-g mean-b thresh nms force "
            "timer deploy class-names"
        ),
        "deploy.py": "network epoch prefix data-shape num-class nms force topk",
        "tools/prepare_dataset.py": "dataset year set target class-names root shuffle true-negative",
        "tools/visualize_net.py": "network num-classes data-shape",
    },
}
NAMES = {
    "ssd.pytorch": (
        "build_ssd vgg add_extras multibox L2Norm PriorBox load_weights point_form center_size jaccard "
        "intersect match encode decode log_sum_exp MultiBoxLoss nms Detect VOCDetection COCODetection "
        "pull_image pull_anno pull_tensor VOCAnnotationTransform VOC_CLASSES detection_collate BaseTransform "
        "MEANS SSDAugmentation Compose ConvertFromInts SubtractMeans ToAbsoluteCoords ToPercentCoords "
        "ToCV2Image ToTensor Resize RandomMirror Expand PhotometricDistort RandomBrightness RandomContrast "
        "RandomSaturation RandomHue ConvertColor RandomLightingNoise RandomSampleCrop jaccard_numpy min_dim "
        "feature_maps steps min_sizes max_sizes aspect_ratios variance clip max_iter lr_steps DataParallel "
        "weights_init COLORS batch_norm"
    ),
    "MXNet's operators": (
        "MultiBoxPrior MultiBoxTarget MultiBoxDetection L2Normalization SoftmaxOutput smooth_l1 MakeLoss "
        "SoftmaxActivation overlap_threshold ignore_label negative_mining_ratio negative_mining_thresh "
        "background_id minimum_negative_samples variances nms_threshold force_suppress nms_topk sizes ratios "
        "clip steps offsets"
    ),
    "mxnet-ssd": (
        "get_config get_symbol_train get_symbol multi_layer_feature multibox_layer legacy_conv_act_layer "
        "network num_classes from_layers num_filters strides pads min_filter sizes ratios normalizations "
        "normalization num_channels steps clip interm_layer nms_thresh force_suppress nms_topk num_layers "
        "import_module __lr_mult__ __wd_mult__ cls_prob loc_loss cls_label det_out im2rec caffe_converter"
    ),
    "mxnet-dssd": (
        "use_tdm use_perdict_module use_predict_module use_res_unit topdown_layers construct_dssd_deconv_layer"
    ),
}
