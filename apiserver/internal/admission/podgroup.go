package admission

// PodGroupProtection has upstream give each new PodGroup a finalizer where the gate GenericWorkload is on. It is off in v1.37, which then
// serves no PodGroups: the plugin is known by its name and does nothing.
type PodGroupProtection struct{ operations }
