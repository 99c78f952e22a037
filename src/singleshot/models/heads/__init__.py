"""The predictors that read the feature maps."""
