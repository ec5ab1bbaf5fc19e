"""Early warning: campaigns found as they start, from the decision record, beside the service."""
